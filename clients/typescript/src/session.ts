// The session that an endpoint with `resume` keeps for a client whose network is lost (docs/resume.md of the gateway): what
// is known of it, and when it is over. No sockets and no clock in here.

import { CloseCode } from "./close_codes.js";

/** Why a connection could not be resumed (docs/resume.md says what each means). */
export type NotResumed = "unknown" | "missed_too_much" | "other_user" | "other_endpoint" | "node_lost" | "malformed";

/** The first frame of each socket of such an endpoint. */
export interface SessionFrame {
  type: "session";
  connectionId: string;
  resumeToken: string;
  /** It is the connection that was asked for: what follows is what was missed, in order. */
  resumed: boolean;
  /** Why it is not; absent when none was asked for. */
  reason?: string;
  received: number;
  windowInSeconds: number;
}

export function asSession(message: unknown): SessionFrame | undefined {
  if (typeof message !== "object" || message === null) return undefined;
  const frame = message as Record<string, unknown>;
  const texts = typeof frame["connectionId"] === "string" && typeof frame["resumeToken"] === "string";
  const numbers = Number.isSafeInteger(frame["received"]) && typeof frame["windowInSeconds"] === "number";
  return frame["type"] === "session" && texts && numbers && typeof frame["resumed"] === "boolean"
    ? (message as SessionFrame)
    : undefined;
}

export class Session {
  #token: string | undefined;
  #received = 0;
  #windowMillis = 0;
  /** When the socket was lost; unset while there is one. */
  #lostAt: number | undefined;
  /** Was not asked for, since its window was over. */
  #isTooLate = false;

  begin(frame: SessionFrame): void {
    this.#token = frame.resumeToken;
    this.#received = frame.received;
    this.#windowMillis = frame.windowInSeconds * 1000;
    this.#lostAt = undefined;
    this.#isTooLate = false;
  }

  /** A data frame behind the session frame. */
  count(): void {
    this.#received += 1;
  }

  /** A socket has ended, or a handshake has failed. A close frame, whatever its code, ends the session. */
  ended(code: number, now: number): void {
    if (code === CloseCode.Lost) this.#lostAt ??= now;
    else this.forget();
  }

  forget(): void {
    this.#token = undefined;
    this.#lostAt = undefined;
    this.#isTooLate = false;
  }

  /** The query parameters of the next handshake; none when there is nothing to resume, or no longer. */
  query(now: number): Record<string, string> {
    if (this.isKept && this.#lostAt !== undefined && now - this.#lostAt > this.#windowMillis) {
      this.forget();
      this.#isTooLate = true;
    }
    return this.#token === undefined ? {} : { resume: this.#token, received: String(this.#received) };
  }

  /** Why a new connection is no resumed one, when the gateway was not asked: in its own words. */
  get whyNotAsked(): NotResumed | undefined {
    return this.#isTooLate ? "unknown" : undefined;
  }

  /** Whether a socket that ends without a close frame can be resumed. */
  get isKept(): boolean {
    return this.#token !== undefined;
  }
}
