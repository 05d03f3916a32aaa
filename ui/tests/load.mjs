// Traffic for the tests: WebSocket clients that send events all the time. Written upon a bare socket, since the oldest Node
// that the UI is built with has no WebSocket of its own.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

const TEXT = 0x81;
const PING = 0x9;
const PONG = 0x8a;

/** A frame of a client; with a key of zeroes the masked payload is the payload. */
function frame(kind, payload) {
  const head = payload.length < 126 ? [kind, 0x80 | payload.length] : [kind, 0x80 | 126, payload.length >> 8, payload.length & 0xff];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

/** Takes whole frames off the front of what came; calls `hear` with each one's opcode and payload. */
function frames(data, hear) {
  let at = 0;
  while (data.length - at >= 2) {
    const short = data[at + 1] & 0x7f;
    const head = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (data.length - at < head) break;
    const length = short === 126 ? data.readUInt16BE(at + 2) : short === 127 ? Number(data.readBigUInt64BE(at + 2)) : short;
    if (data.length - at < head + length) break;
    hear(data[at] & 0xf, data.subarray(at + head, at + head + length));
    at += head + length;
  }
  return data.subarray(at);
}

function client(host, port, path, header) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host);
    let data = Buffer.alloc(0);
    let open = false;
    socket.on('error', reject);
    socket.on('connect', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n${header ? `${header}\r\n` : ''}\r\n`));
    socket.on('data', (piece) => {
      data = Buffer.concat([data, piece]);
      if (!open) {
        const end = data.indexOf('\r\n\r\n');
        if (end < 0) return;
        const status = data.subarray(0, end).toString().split('\r\n')[0];
        if (!status.includes(' 101 ')) return reject(new Error(`${path}: ${status}`));
        open = true;
        data = data.subarray(end + 4);
        resolve({ send: (text) => socket.writable && socket.write(frame(TEXT, Buffer.from(text))), close: () => socket.destroy() });
      }
      data = frames(data, (opcode, payload) => opcode === PING && socket.write(frame(PONG, payload)));
    });
  });
}

/** Every seventh is no JSON, so that there are errors, too. */
const MESSAGE = (sent) => (sent % 7 === 0 ? 'no json' : JSON.stringify({ action: sent % 3 ? 'load' : 'buy', n: sent, text: 'x'.repeat(sent % 50) }));

/** So many clients of `address` (host:port), which together send so many events a second. Returns what ends them. `header`
 *  makes a line of the handshake's head from the client's number. */
export async function load(address, path, { connections = 20, perSecond = 300, message = MESSAGE, header = () => '' } = {}) {
  const split = address.lastIndexOf(':');
  const host = address.slice(0, split).replace(/^\[|\]$/g, '').replace(/^(0\.0\.0\.0|::)$/, '127.0.0.1');
  const clients = await Promise.all(Array.from({ length: connections }, (_, place) => client(host, Number(address.slice(split + 1)), path, header(place))));
  const TICK_MILLIS = 50;
  let owed = 0;
  let sent = 0;
  const timer = setInterval(() => {
    for (owed += (perSecond * TICK_MILLIS) / 1000; owed >= 1; owed -= 1) {
      sent += 1;
      clients[sent % clients.length].send(message(sent));
    }
  }, TICK_MILLIS);
  return {
    get sent() {
      return sent;
    },
    end() {
      clearInterval(timer);
      for (const each of clients) each.close();
    },
  };
}
