// The client: one connection to an endpoint that is kept, over sockets that come and go.

import { delayMillis, type Backoff } from "./backoff.js";
import { after, CloseCode } from "./close_codes.js";
import { Emitter } from "./events.js";
import { asAck, asError, asRefreshed, type Ack, type GatewayError } from "./frames.js";
import { asSession, Session, type SessionFrame } from "./session.js";
import { abandon, defaultSocket, OPEN, type SocketConstructor, type SocketLike } from "./socket.js";

/** `idle`: not asked to connect yet. `waiting`: for the next attempt. `stopped`: will not come back by itself. */
export type State = "idle" | "connecting" | "open" | "waiting" | "stopped";

export interface OpenInfo {
  url: string;
  /** The subprotocol that the gateway chose, or an empty text. */
  protocol: string;
  /** Attempts that had failed before this one. */
  failedAttempts: number;
}

export interface ClosedInfo {
  code: number;
  reason: string;
  /** When the client comes back by itself; `null` when it does not. */
  reconnectInMillis: number | null;
  /** What failed on this side, when something did: the token, the URL, the socket. */
  error?: unknown;
}

export interface SessionInfo {
  connectionId: string;
  /** It is the connection from before: nothing was missed. Otherwise it is a new one; load the state again. */
  resumed: boolean;
  /** Why it could not be resumed; absent when there was nothing to resume. */
  reason?: string;
}

export interface Events<Received> {
  open: OpenInfo;
  /** A message of a service: a push or a reply. */
  message: Received;
  ack: Ack;
  error: GatewayError;
  /** Of an endpoint with `resume`, at the beginning of each socket. */
  session: SessionInfo;
  /** A socket has ended, or could not be had. */
  close: ClosedInfo;
  state: State;
  /** A message that is not JSON; only an echo that is raw sends one. */
  unparsable: unknown;
}

export interface Heartbeat {
  /** The event that is sent; a route of the endpoint must answer it, or an ack. */
  event: unknown;
  /** It is sent when nothing has arrived for so long. */
  everyMillis: number;
  /** When nothing arrives for so long after it, the socket is given up. */
  answerWithinMillis: number;
}

export interface Options {
  /** Of the endpoint. Of several (the nodes of a cluster) the next one is tried after each failure. */
  url: string | readonly string[];
  /** Subprotocols to offer, best first. */
  protocols?: readonly string[];
  /** Asked before each handshake. `null`: there is none any more (signed out); the client stops. */
  token?: () => string | null | Promise<string | null>;
  /** `subprotocol` (the default) offers `bearer.<token>`; browsers then need a subprotocol of the endpoint beside it. */
  tokenIn?: "subprotocol" | { query: string };
  backoff?: Partial<Backoff>;
  /** A handshake that takes longer is given up. */
  handshakeTimeoutMillis?: number;
  /** A connection that has held so long begins the backoff anew when it ends. */
  stableAfterMillis?: number;
  /** Events that wait while there is no connection. */
  queueMax?: number;
  heartbeat?: Heartbeat;
  WebSocket?: SocketConstructor;
  /** Of [0, 1); for tests. */
  random?: () => number;
}

/** There is no connection, and so many events wait already. */
export class QueueFullError extends Error {
  override name = "QueueFullError";
}

/** The client does not come back by itself. */
export class StoppedError extends Error {
  override name = "StoppedError";
}

/** A token that was shown while connected is not taken. */
export class RefreshError extends Error {
  override name = "RefreshError";
}

const FIRST_MILLIS = 500;
const MAX_MILLIS = 30_000;
// The gateway's own deadlines, of the handshake (5 s) and of the connect route behind it, are shorter.
const HANDSHAKE_TIMEOUT_MILLIS = 15_000;
const STABLE_AFTER_MILLIS = 5_000;
const QUEUE_MAX = 64;

type Timer = ReturnType<typeof setTimeout>;

export class GatewayClient<Sent = unknown, Received = unknown> {
  readonly #options: Options;
  readonly #backoff: Backoff;
  readonly #Socket: SocketConstructor;
  readonly #events = new Emitter<Events<Received>>();
  readonly #queue: string[] = [];
  readonly #session = new Session();
  /** Waits for the answer to a token that was shown while connected. */
  #refreshing: { settle: (end: string | null) => void; fail: (error: Error) => void } | undefined;
  #state: State = "idle";
  #socket: SocketLike | undefined;
  /** The next message is the first one of its socket. */
  #isFirst = false;
  #connectionId: string | undefined;
  /** Given up while open, and not closed yet: the close frame would tell the gateway that this client has left. */
  readonly #abandoned: SocketLike[] = [];
  /** Of the attempt under way: what belongs to an earlier one is ignored. */
  #attempt = 0;
  #failures = 0;
  #urlIndex = 0;
  #lastToken: string | null | undefined;
  /** Closed with 4401: another one is needed. */
  #refusedToken: string | undefined;
  #timer: Timer | undefined;
  #stable: Timer | undefined;
  #heartbeat: Timer | undefined;

  constructor(options: Options) {
    if (urls(options).length === 0) throw new TypeError("url: at least one");
    this.#options = options;
    this.#backoff = { firstMillis: FIRST_MILLIS, maxMillis: MAX_MILLIS, ...options.backoff };
    this.#Socket = options.WebSocket ?? defaultSocket();
  }

  get state(): State {
    return this.#state;
  }

  /** Of the connection, on an endpoint with `resume`. */
  get connectionId(): string | undefined {
    return this.#connectionId;
  }

  /** Bytes that the socket has not sent yet. */
  get bufferedAmount(): number {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Events that wait for a connection. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Answers the function that takes the listener away again. */
  on<Name extends keyof Events<Received>>(name: Name, listener: (value: Events<Received>[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /** Connects, and from then on keeps the connection. Of a client that has stopped: begins again. */
  connect(): void {
    if (this.#state !== "idle" && this.#state !== "stopped") return;
    this.#failures = 0;
    this.#refusedToken = undefined;
    addOnlineListener(this.#cameOnline);
    void this.#open();
  }

  /** Resolves when the connection is open; rejects with {@link StoppedError} when the client has stopped. */
  ready(): Promise<void> {
    if (this.#state === "open") return Promise.resolve();
    return new Promise((resolve, reject) => {
      const look = (state: State): void => {
        if (state !== "open" && state !== "stopped") return;
        forget();
        if (state === "open") resolve();
        else reject(new StoppedError("the client has stopped"));
      };
      const forget = this.on("state", look);
      if (this.#state === "stopped") look("stopped");
    });
  }

  /**
   * Sends an event, or keeps it for the next connection. An event is sent at most once: one that was handed to a socket
   * which then broke may be lost. Give events an `id` and ask for acks where that matters.
   */
  send(event: Sent): "sent" | "queued" {
    const text = JSON.stringify(event);
    if (text === undefined) throw new TypeError("this event has no JSON");
    if (this.#state === "open" && this.#socket?.readyState === OPEN) {
      this.#socket.send(text);
      return "sent";
    }
    if (this.#state === "stopped") throw new StoppedError("the client has stopped");
    const max = this.#options.queueMax ?? QUEUE_MAX;
    if (this.#queue.length >= max) throw new QueueFullError(`there is no connection, and ${max} events wait for one`);
    this.#queue.push(text);
    return "queued";
  }

  /**
   * Asks for a token and shows it on the open connection, at an endpoint with `refresh`. Answers when it ends (`null` for
   * never). Rejects with {@link RefreshError}, and the connection goes on with the token from before, when it is not
   * taken, or the connection ends meanwhile.
   */
  async refreshToken(): Promise<string | null> {
    if (this.#refreshing) throw new RefreshError("one exchange is under way");
    const attempt = this.#attempt;
    const answer = new Promise<string | null>((settle, fail) => (this.#refreshing = { settle, fail }));
    // Its failure is told to whoever awaits the answer below, if anybody gets there.
    answer.catch(() => undefined);
    try {
      const token = await this.#options.token?.();
      if (token === undefined || token === null) throw new RefreshError("there is no token");
      if (attempt !== this.#attempt || this.#socket?.readyState !== OPEN) throw new RefreshError("there is no connection");
      this.#socket.send(JSON.stringify({ type: "refresh", token }));
      const end = await answer;
      this.#lastToken = token;
      return end;
    } finally {
      this.#refreshing = undefined;
    }
  }

  /** Ends the connection and stays away. What waits is dropped. */
  close(code: number = CloseCode.Normal, reason = ""): void {
    if (this.#state === "stopped") return;
    const socket = this.#socket;
    this.#leave();
    this.#forget();
    socket?.close(code, reason);
    this.#become("stopped");
    this.#events.emit("close", { code, reason, reconnectInMillis: null });
  }

  // ---- one attempt

  async #open(): Promise<void> {
    this.#leave();
    const attempt = this.#attempt;
    this.#become("connecting");
    // Counts from here: a token that never comes is a handshake that takes too long.
    const timeout = this.#options.handshakeTimeoutMillis ?? HANDSHAKE_TIMEOUT_MILLIS;
    this.#timer = setTimeout(() => this.#gaveUp("no connection in time"), timeout);
    let socket: SocketLike;
    let url: string;
    try {
      const token = await this.#options.token?.();
      if (attempt !== this.#attempt) return;
      if (token === null) return this.#stop(CloseCode.CredentialExpired, "there is no token");
      if (token !== undefined && token === this.#refusedToken) {
        return this.#stop(CloseCode.CredentialExpired, "the token is the one that was refused");
      }
      this.#lastToken = token;
      const list = urls(this.#options);
      url = list[this.#urlIndex % list.length] as string;
      const handshake = shown(url, this.#options, token, this.#session.query(Date.now()));
      socket = new this.#Socket(handshake.url, handshake.protocols);
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(CloseCode.Lost, "no connection was begun", error);
      return;
    }
    this.#socket = socket;
    this.#listen(socket, attempt, url);
  }

  #listen(socket: SocketLike, attempt: number, url: string): void {
    const current = (): boolean => attempt === this.#attempt;
    let error: unknown;
    socket.onopen = () => {
      if (current()) this.#opened(socket, url);
    };
    socket.onmessage = (event: { data: unknown }) => {
      if (current()) this.#received(event.data);
    };
    // A close follows. Browsers say nothing here; `ws` says what the handshake was answered.
    socket.onerror = (event: { error?: unknown; message?: unknown }) => {
      error = event.error ?? event.message;
    };
    socket.onclose = (event: { code: number; reason: string }) => {
      if (current()) this.#failed(event.code, event.reason, error);
    };
  }

  #opened(socket: SocketLike, url: string): void {
    clearTimeout(this.#timer);
    const failedAttempts = this.#failures;
    this.#stable = setTimeout(() => (this.#failures = 0), this.#options.stableAfterMillis ?? STABLE_AFTER_MILLIS);
    this.#refusedToken = undefined;
    this.#isFirst = true;
    this.#awaitSilence();
    // Before anything that a listener sends.
    for (const text of this.#queue.splice(0)) socket.send(text);
    this.#become("open");
    this.#events.emit("open", { url, protocol: socket.protocol, failedAttempts });
  }

  #received(data: unknown): void {
    this.#awaitSilence();
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    let message: unknown;
    try {
      message = JSON.parse(data as string);
    } catch {
      this.#session.count();
      return this.#events.emit("unparsable", data);
    }
    const session = isFirst ? asSession(message) : undefined;
    if (session) return this.#began(session);
    this.#session.count();
    const ack = asAck(message);
    if (ack) return this.#events.emit("ack", ack);
    const refreshed = this.#refreshing && asRefreshed(message);
    if (refreshed) return this.#refreshing?.settle(refreshed.expiresAt);
    const error = asError(message);
    if (error?.error.code === "refresh_refused") this.#refreshing?.fail(new RefreshError(error.error.message));
    if (error) return this.#events.emit("error", error);
    this.#events.emit("message", message as Received);
  }

  #began(frame: SessionFrame): void {
    this.#session.begin(frame);
    this.#connectionId = frame.connectionId;
    for (const socket of this.#abandoned.splice(0)) socket.close();
    const { connectionId, resumed, reason } = frame;
    this.#events.emit("session", reason === undefined ? { connectionId, resumed } : { connectionId, resumed, reason });
  }

  // ---- the end of one

  /** The socket has not ended; it is as good as that. */
  #gaveUp(reason: string): void {
    const socket = this.#socket;
    this.#failed(CloseCode.Lost, reason, undefined);
    if (!socket || abandon(socket)) return;
    if (this.#session.isKept) this.#abandoned.push(socket);
    else socket.close();
  }

  #failed(code: number, reason: string, error: unknown): void {
    this.#session.ended(code, Date.now());
    const verdict = after(code);
    if (verdict === "stop") return this.#stop(code, reason);
    if (verdict === "new-token") {
      if (this.#options.token === undefined) return this.#stop(code, reason);
      this.#refusedToken = this.#lastToken ?? undefined;
    }
    this.#leave();
    const delay = delayMillis(this.#failures, this.#backoff, this.#options.random ?? Math.random);
    this.#failures += 1;
    this.#urlIndex += 1;
    this.#timer = setTimeout(() => void this.#open(), delay);
    this.#become("waiting");
    const info = { code, reason, reconnectInMillis: delay };
    this.#events.emit("close", error === undefined ? info : { ...info, error });
  }

  #stop(code: number, reason: string): void {
    this.#leave();
    this.#forget();
    this.#become("stopped");
    this.#events.emit("close", { code, reason, reconnectInMillis: null });
  }

  /** Has nothing to do with the last attempt any more. */
  #leave(): void {
    this.#attempt += 1;
    this.#socket = undefined;
    this.#refreshing?.fail(new RefreshError("the connection has ended"));
    for (const timer of [this.#timer, this.#stable, this.#heartbeat]) clearTimeout(timer);
  }

  /** Nothing of before is for the next time. */
  #forget(): void {
    this.#queue.length = 0;
    this.#session.forget();
    this.#connectionId = undefined;
    for (const socket of this.#abandoned.splice(0)) socket.close();
  }

  #become(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    if (state === "stopped") removeOnlineListener(this.#cameOnline);
    this.#events.emit("state", state);
  }

  /** The network is back: what is left of the wait would be for nothing. */
  readonly #cameOnline = (): void => {
    if (this.#state === "waiting") void this.#open();
  };

  // ---- silence

  /** Browsers do not show the gateway's pings, so a network that has gone is seen by what no longer arrives. */
  #awaitSilence(): void {
    const { heartbeat } = this.#options;
    if (heartbeat === undefined) return;
    clearTimeout(this.#heartbeat);
    this.#heartbeat = setTimeout(() => {
      this.#heartbeat = setTimeout(() => this.#gaveUp("the heartbeat was not answered"), heartbeat.answerWithinMillis);
      if (this.#socket?.readyState === OPEN) this.#socket.send(JSON.stringify(heartbeat.event));
    }, heartbeat.everyMillis);
  }
}

function urls(options: Options): readonly string[] {
  return typeof options.url === "string" ? [options.url] : options.url;
}

interface Handshake {
  url: string;
  protocols: string[];
}

/** What the handshake shows of a token, and of a session to resume. */
function shown(url: string, options: Options, token: string | undefined, query: Record<string, string>): Handshake {
  const protocols = [...(options.protocols ?? [])];
  const place = options.tokenIn ?? "subprotocol";
  const parameters = { ...query };
  if (token !== undefined && place === "subprotocol") protocols.push(`bearer.${token}`);
  else if (token !== undefined && place !== "subprotocol") parameters[place.query] = token;
  if (Object.keys(parameters).length === 0) return { url, protocols };
  const parsed = new URL(url);
  for (const [name, value] of Object.entries(parameters)) parsed.searchParams.set(name, value);
  return { url: parsed.href, protocols };
}

type Network = { addEventListener?: unknown; removeEventListener?: unknown };

function addOnlineListener(listener: () => void): void {
  const { addEventListener } = globalThis as Network;
  if (typeof addEventListener === "function") globalThis.addEventListener("online", listener);
}

function removeOnlineListener(listener: () => void): void {
  const { removeEventListener } = globalThis as Network;
  if (typeof removeEventListener === "function") globalThis.removeEventListener("online", listener);
}
