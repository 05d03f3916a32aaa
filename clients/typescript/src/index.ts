// What an application sees of this package.
export { GatewayClient, QueueFullError, RefreshError, StoppedError } from "./client.js";
export type { ClosedInfo, Events, Heartbeat, OpenInfo, Options, SessionInfo, State } from "./client.js";
export { after, CloseCode } from "./close_codes.js";
export type { Verdict } from "./close_codes.js";
export { delayMillis } from "./backoff.js";
export type { Backoff } from "./backoff.js";
export type { Ack, ErrorCode, GatewayError, Refreshed } from "./frames.js";
export type { SocketConstructor, SocketLike } from "./socket.js";
