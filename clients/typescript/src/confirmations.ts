// The client's own word that it has a message (docs/receipts.md of the gateway): which messages want it, and what becomes of
// a word that cannot be said just now. No sockets in here.

/** A message whose sender waits until the client says that it has it. */
export interface Confirmable {
  type: "message";
  id: string;
  data: unknown;
}

// So many the gateway waits for.
const OWED_MAX = 64;

const ID = /^[0-9a-f]{16}$/;

/** The frame has these three members and no other; a service's own message that looks so is taken for one. */
export function asConfirmable(message: unknown): Confirmable | undefined {
  if (typeof message !== "object" || message === null) return undefined;
  const frame = message as Record<string, unknown>;
  const isOne = frame["type"] === "message" && typeof frame["id"] === "string" && ID.test(frame["id"]);
  return isOne && "data" in frame && Object.keys(frame).length === 3 ? (message as Confirmable) : undefined;
}

export function confirmation(id: string): string {
  return JSON.stringify({ type: "ack", id });
}

/**
 * What is owed belongs to a connection, which may live on several sockets: said on another connection it would be an event
 * of the application's. And what was said is not said again, for the same reason.
 */
export class Confirmations {
  #connection = {};
  #owed: string[] = [];

  /** Stands for the connection of now. */
  get connection(): object {
    return this.#connection;
  }

  /** There is another connection, or none any more. */
  begin(): void {
    this.#connection = {};
    this.#owed = [];
  }

  /** Cannot be said before the connection is resumed. */
  keep(id: string, connection: object): void {
    if (connection !== this.#connection) return;
    this.#owed.push(id);
    if (this.#owed.length > OWED_MAX) this.#owed.shift();
  }

  /** What can be said now. */
  take(): string[] {
    return this.#owed.splice(0);
  }
}
