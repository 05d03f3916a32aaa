// What an application sees of this package.
export { GatewayClient } from "./client.js";
export type { ClosedInfo, Events, OpenInfo, Options, SessionInfo, State, Unconfirmed } from "./client.js";
export { QueueFullError, RefreshError, RefusedError, StoppedError } from "./errors.js";
export { after, CloseCode } from "./close_codes.js";
export type { Verdict } from "./close_codes.js";
export { delayMillis } from "./backoff.js";
export type { Backoff } from "./backoff.js";
export type { Ack, ErrorCode, GatewayError, Refreshed } from "./frames.js";
export type { TokenPlace } from "./handshake.js";
export type { NotResumed } from "./session.js";
export type { Heartbeat } from "./silence.js";
export type { SocketConstructor, SocketLike } from "./socket.js";
