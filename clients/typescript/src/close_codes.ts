// What a close code asks of a client. The codes are part of the gateway's HTTP reference (docs/http-api.md, close codes).

/** The codes that the gateway sends, by name. */
export const CloseCode = {
  Normal: 1000,
  ProtocolError: 1002,
  BinaryNotAccepted: 1003,
  /** The socket ended without a close frame, or the handshake was refused: a browser does not tell which. */
  Lost: 1006,
  NotUtf8: 1007,
  Policy: 1008,
  TooBig: 1009,
  Internal: 1011,
  Restarting: 1012,
  SlowConsumer: 1013,
  CredentialExpired: 4401,
  RemovedByOperator: 4403,
  HeartbeatMissed: 4408,
  /** Another socket has resumed this one's connection. */
  Superseded: 4409,
  EndpointDeleted: 4410,
} as const;

/**
 * `reconnect`: with backoff. `new-token`: with backoff and a token other than the last. `stop`: something must change
 * first that this client cannot change.
 */
export type Verdict = "reconnect" | "new-token" | "stop";

/** Below 4400 a client reconnects; from 4400 on something must change first, a missed heartbeat (4408) excepted. */
export function after(code: number): Verdict {
  if (code < 4400 || code === CloseCode.HeartbeatMissed) return "reconnect";
  return code === CloseCode.CredentialExpired ? "new-token" : "stop";
}

/** The same of a handshake's status, where it is known. Most refusals pass: a limit, a node that leaves, a new endpoint. */
export function afterRefusal(status: number): Verdict {
  if (status === 401) return "new-token";
  return status === 403 ? "stop" : "reconnect";
}

// A handshake's `Retry-After` is in whole seconds, one at least.
const TOO_MUCH_MILLIS = 1000;

/** What is waited at the least, beside the backoff: after an end that says that something was too much. */
export function leastWaitMillis(code: number, reason: string): number {
  const wasTooMuch = code === CloseCode.SlowConsumer || (code === CloseCode.Policy && reason === "throttled");
  return wasTooMuch ? TOO_MUCH_MILLIS : 0;
}
