// The gateway's own frames among the messages. Everything else is the services'.

export interface Ack {
  type: "ack";
  eventId: string;
  status: "received" | "delivered";
  /** The field `id` of the event that is acknowledged. */
  clientEventId?: unknown;
}

export type ErrorCode =
  | "invalid_json"
  | "schema_violation"
  | "transform_failed"
  | "no_route"
  | "throttled"
  | "delivery_failed"
  | "refresh_refused";

export interface GatewayError {
  type: "error";
  error: { code: ErrorCode; message: string; retryAfterMillis?: number };
  connectionId: string;
  eventId?: string;
  clientEventId?: unknown;
}

/** The answer to a token that was shown while connected. */
export interface Refreshed {
  type: "refreshed";
  /** RFC 3339; `null` of a token without an end. */
  expiresAt: string | null;
}

/** Nothing of a message that is no JSON, or binary. */
export function parse(data: unknown): { value: unknown } | undefined {
  if (typeof data !== "string") return undefined;
  try {
    return { value: JSON.parse(data) as unknown };
  } catch {
    return undefined;
  }
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

export function asAck(message: unknown): Ack | undefined {
  const frame = fields(message);
  if (frame?.["type"] !== "ack" || typeof frame["eventId"] !== "string") return undefined;
  return frame["status"] === "received" || frame["status"] === "delivered" ? (message as Ack) : undefined;
}

export function asRefreshed(message: unknown): Refreshed | undefined {
  const frame = fields(message);
  const end = frame?.["expiresAt"];
  const isOne = frame?.["type"] === "refreshed" && (end === null || typeof end === "string");
  return isOne ? (message as Refreshed) : undefined;
}

export function asError(message: unknown): GatewayError | undefined {
  const frame = fields(message);
  if (frame?.["type"] !== "error" || typeof frame["connectionId"] !== "string") return undefined;
  return typeof fields(frame["error"])?.["code"] === "string" ? (message as GatewayError) : undefined;
}
