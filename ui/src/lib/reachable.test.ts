import { expect, it } from 'vitest';
import { reachable } from './reachable';

it('a listener on all addresses is where the page came from', () => {
  expect(reachable('ws://0.0.0.0:8080', 'gw.example.com')).toBe('ws://gw.example.com:8080');
  expect(reachable('wss://[::]:8443', 'localhost')).toBe('wss://localhost:8443');
  expect(reachable('http://:9000', '127.0.0.1')).toBe('http://127.0.0.1:9000');
});

it('what a node says of itself is left as it is', () => {
  for (const url of ['ws://10.0.0.1:8080', 'ws://[2001:db8::1]:8080', 'wss://ws.example.com/base', 'https://0.0.0.0.example.com']) expect(reachable(url, 'here')).toBe(url);
  expect(reachable('wss://ws.example.com/', 'here')).toBe('wss://ws.example.com');
});
