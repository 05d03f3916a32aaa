// What the client's methods throw or reject with.

import type { ClosedInfo } from "./client.js";

/** There is no connection, and so many events wait already. */
export class QueueFullError extends Error {
  override name = "QueueFullError";
}

/** The client does not come back by itself. */
export class StoppedError extends Error {
  override name = "StoppedError";
  /** What it stopped for. */
  readonly closed: ClosedInfo | undefined;

  constructor(closed?: ClosedInfo) {
    super(closed ? `the client has stopped: ${closed.code} ${closed.reason}`.trimEnd() : "the client has stopped");
    this.closed = closed;
  }
}

/** A token that was shown while connected is not taken. */
export class RefreshError extends Error {
  override name = "RefreshError";
}

/** A handshake was answered with this status; only npm's `ws` tells it. */
export class RefusedError extends Error {
  override name = "RefusedError";
  readonly status: number;

  constructor(status: number) {
    super(`the handshake was answered ${status}`);
    this.status = status;
  }
}
