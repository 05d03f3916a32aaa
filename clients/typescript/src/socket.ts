// The part of the WebSocket interface that is used here: browsers have it, Node.js from 22 on, and npm's `ws`.

import { retryAfterMillis, type Refusal } from "./handshake.js";

export interface SocketLike {
  readonly protocol: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type SocketConstructor = new (url: string, protocols: string[]) => SocketLike;

/** Of `readyState`. */
export const OPEN = 1;

export function defaultSocket(): SocketConstructor {
  const found = (globalThis as { WebSocket?: unknown }).WebSocket;
  if (typeof found !== "function") {
    throw new TypeError("there is no global WebSocket here: give one as the option WebSocket (npm's ws is one)");
  }
  return found as SocketConstructor;
}

/** Ends a socket without a close frame, where that can be done (`ws` can, a browser cannot); `false` when it cannot. */
export function abandon(socket: SocketLike): boolean {
  const { terminate } = socket as { terminate?: unknown };
  if (typeof terminate !== "function") return false;
  terminate.call(socket);
  return true;
}

/** Tells what a refused handshake was answered, where that can be seen (`ws` shows it); the socket's end follows. */
export function onRefusal(socket: SocketLike, tell: (refusal: Refusal) => void): void {
  const { on, terminate } = socket as { on?: unknown; terminate?: unknown };
  if (typeof on !== "function" || typeof terminate !== "function") return;
  type Answer = { statusCode?: number; headers: Record<string, unknown> };
  on.call(socket, "unexpected-response", (_request: unknown, answer: Answer) => {
    const later = retryAfterMillis(answer.headers["retry-after"], Date.now());
    const status = answer.statusCode ?? 0;
    tell(later === undefined ? { status } : { status, retryAfterMillis: later });
    // Who listens for it has to end it.
    terminate.call(socket);
  });
}
