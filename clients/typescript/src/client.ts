// The client: one connection to an endpoint that is kept, over sockets that come and go.

import { delayMillis, type Backoff } from "./backoff.js";
import { after, afterRefusal, CloseCode, leastWaitMillis } from "./close_codes.js";
import { asConfirmable, confirmation, Confirmations } from "./confirmations.js";
import { QueueFullError, RefreshError, RefusedError, StoppedError } from "./errors.js";
import { Emitter } from "./events.js";
import { asAck, asError, asRefreshed, parse, type Ack, type GatewayError } from "./frames.js";
import { backoffOf, checkedUrls, shown, type Refusal, type TokenPlace } from "./handshake.js";
import { addOnlineListener, removeOnlineListener } from "./online.js";
import { asSession, Session, type NotResumed, type SessionFrame } from "./session.js";
import { Silence, type Heartbeat } from "./silence.js";
import { abandon, defaultSocket, onRefusal, OPEN, type SocketConstructor, type SocketLike } from "./socket.js";

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
  /** What a refused handshake was answered, where that can be seen: `ws` shows it, browsers do not. */
  status?: number;
  /** What failed on this side, when something did: the token, the URL, the socket. */
  error?: unknown;
}

export interface SessionInfo {
  connectionId: string;
  /** It is the connection from before: nothing was missed. Otherwise it is a new one; load the state again. */
  resumed: boolean;
  /** Why it could not be resumed; absent when there was nothing to resume. */
  reason?: NotResumed | (string & {});
}

/** A message whose sender waited for the client's word, and does not get it. */
export interface Unconfirmed<Received> {
  message: Received;
  /** What the option `confirm` threw or rejected with. */
  error: unknown;
}

export interface Events<Received> {
  open: OpenInfo;
  /** A message of a service: a push or a reply. */
  message: Received;
  unconfirmed: Unconfirmed<Received>;
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

export interface Options<Received = unknown> {
  /** Of the endpoint. Of several (the nodes of a cluster) the next one is tried after each failure. */
  url: string | readonly string[];
  /** Subprotocols to offer, best first. */
  protocols?: readonly string[];
  /** Asked before each handshake. `null`: there is none any more (signed out); the client stops. */
  token?: () => string | null | Promise<string | null>;
  /** `subprotocol` (the default) offers `bearer.<token>`; browsers then need a subprotocol of the endpoint beside it. */
  tokenIn?: TokenPlace;
  backoff?: Partial<Backoff>;
  /** A handshake that takes longer is given up. */
  handshakeTimeoutMillis?: number;
  /** A connection that has held so long begins the backoff anew when it ends. */
  stableAfterMillis?: number;
  /** Events that wait while there is no connection. */
  queueMax?: number;
  /**
   * Asked about each message whose sender waits for the client's word, after the listeners: it is confirmed when this has
   * come to its end (of a promise: is resolved), and not when it fails. Without it a message is confirmed when the
   * listeners have returned.
   */
  confirm?: (message: Received) => unknown;
  heartbeat?: Heartbeat;
  WebSocket?: SocketConstructor;
  /** Of [0, 1); for tests. */
  random?: () => number;
}

const BACKOFF: Backoff = { firstMillis: 500, maxMillis: 30_000 };
// The gateway's own deadlines, of the handshake (5 s) and of the connect route behind it, are shorter.
const HANDSHAKE_TIMEOUT_MILLIS = 15_000;
const STABLE_AFTER_MILLIS = 5_000;
const QUEUE_MAX = 64;
// A close frame has no room for more.
const REASON_BYTES_MAX = 123;

type Timer = ReturnType<typeof setTimeout>;

export class GatewayClient<Sent = unknown, Received = unknown> {
  readonly #options: Options<Received>;
  readonly #urls: readonly string[];
  readonly #backoff: Backoff;
  readonly #Socket: SocketConstructor;
  readonly #events = new Emitter<Events<Received>>();
  readonly #queue: string[] = [];
  readonly #session = new Session();
  readonly #confirmations = new Confirmations();
  readonly #silence: Silence;
  /** Waits for the answer to a token that was shown while connected. */
  #refreshing: { settle: (end: string | null) => void; fail: (error: Error) => void } | undefined;
  #state: State = "idle";
  /** Why it has stopped. */
  #closed: ClosedInfo | undefined;
  #socket: SocketLike | undefined;
  /** The next message is the first one of its socket. */
  #isFirst = false;
  #connectionId: string | undefined;
  /** Given up while open, and not closed yet: the close frame would tell the gateway that this client has left. */
  readonly #abandoned: SocketLike[] = [];
  /** The latest of them, while nothing else is tried: what it still brings counts as received, for the gateway too. */
  #lingering: SocketLike | undefined;
  /** Of the attempt under way: what belongs to an earlier one is ignored. */
  #attempt = 0;
  #failures = 0;
  #urlIndex = 0;
  #lastToken: string | null | undefined;
  /** Closed with 4401: another one is needed. */
  #refusedToken: string | undefined;
  #timer: Timer | undefined;
  #stable: Timer | undefined;
  /** The gateway has not asked for a pause: a network that is back is reason enough to try. */
  #mayHurry = true;

  constructor(options: Options<Received>) {
    this.#urls = checkedUrls(options.url);
    this.#options = options;
    this.#backoff = backoffOf(options.backoff, BACKOFF);
    this.#Socket = options.WebSocket ?? defaultSocket();
    const ask = (event: string): void => {
      if (this.#socket?.readyState === OPEN) this.#socket.send(event);
    };
    this.#silence = new Silence(options.heartbeat, ask, () => this.#gaveUp("the heartbeat was not answered"));
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
    this.#closed = undefined;
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
        else reject(new StoppedError(this.#closed));
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
    if (this.#state === "stopped") throw new StoppedError(this.#closed);
    const max = this.#options.queueMax ?? QUEUE_MAX;
    if (this.#queue.length >= max) throw new QueueFullError(`there is no connection, and ${max} events wait for one`);
    this.#queue.push(text);
    return "queued";
  }

  /**
   * Asks for a token and shows it on the open connection, at an endpoint with `refresh`. Answers when it ends (`null` for
   * never). Rejects with {@link RefreshError}, and the connection goes on with the token from before, when it is not
   * taken, nothing answers in time, or the connection ends meanwhile.
   */
  async refreshToken(): Promise<string | null> {
    if (this.#refreshing) throw new RefreshError("one exchange is under way");
    if (this.#state !== "open") throw new RefreshError("there is no connection");
    let settle: (end: string | null) => void = () => undefined;
    let fail: (error: Error) => void = () => undefined;
    const settled = new Promise<string | null>((resolve) => (settle = resolve));
    const failed = new Promise<never>((_, reject) => (fail = reject));
    this.#refreshing = { settle, fail };
    const timer = setTimeout(() => fail(new RefreshError("nothing answered in time")), this.#handshakeTimeoutMillis);
    try {
      const token = await Promise.race([failed, this.#options.token?.()]);
      if (token === undefined || token === null) throw new RefreshError("there is no token");
      if (this.#socket?.readyState !== OPEN) throw new RefreshError("there is no connection");
      this.#socket.send(JSON.stringify({ type: "refresh", token }));
      const end = await Promise.race([failed, settled]);
      this.#lastToken = token;
      return end;
    } finally {
      clearTimeout(timer);
      this.#refreshing = undefined;
    }
  }

  /** Ends the connection and stays away. What waits is dropped. `code`: 1000, or one of 3000 to 4999. */
  close(code: number = CloseCode.Normal, reason = ""): void {
    // What every WebSocket asks for, before anything has changed.
    const isAllowed = code === CloseCode.Normal || (Number.isInteger(code) && code >= 3000 && code <= 4999);
    if (!isAllowed) throw new RangeError(`close: the code is ${code}, and may be 1000 or 3000 to 4999`);
    if (new TextEncoder().encode(reason).length > REASON_BYTES_MAX) {
      throw new RangeError(`close: the reason may have ${REASON_BYTES_MAX} bytes`);
    }
    if (this.#state === "stopped") return;
    const socket = this.#socket;
    this.#stop({ code, reason, reconnectInMillis: null }, () => socket?.close(code, reason));
  }

  // ---- one attempt

  get #handshakeTimeoutMillis(): number {
    return this.#options.handshakeTimeoutMillis ?? HANDSHAKE_TIMEOUT_MILLIS;
  }

  async #open(): Promise<void> {
    this.#leave();
    const attempt = this.#attempt;
    // Counts from here: a token that never comes is a handshake that takes too long.
    this.#timer = setTimeout(() => this.#gaveUp("no connection in time"), this.#handshakeTimeoutMillis);
    this.#become("connecting");
    if (attempt !== this.#attempt) return;
    let token: string | null | undefined;
    try {
      token = await this.#options.token?.();
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(CloseCode.Lost, "there was no token", { error });
      return;
    }
    if (attempt !== this.#attempt) return;
    const stop = (reason: string): void =>
      this.#stop({ code: CloseCode.CredentialExpired, reason, reconnectInMillis: null });
    if (token === null) return stop("there is no token");
    if (token !== undefined && token === this.#refusedToken) return stop("the token is the one that was refused");
    this.#lastToken = token;
    this.#begin(attempt, token);
  }

  #begin(attempt: number, token: string | undefined): void {
    const url = this.#urls[this.#urlIndex % this.#urls.length] as string;
    const { protocols, tokenIn } = this.#options;
    const query = this.#session.query(Date.now());
    let socket: SocketLike;
    try {
      const handshake = shown(url, protocols ?? [], tokenIn ?? "subprotocol", token, query);
      socket = new this.#Socket(handshake.url, handshake.protocols);
    } catch (error) {
      // A subprotocol that cannot be one, a page that may not connect there: it would be the same the next time.
      return this.#stop({ code: CloseCode.Lost, reason: "no connection can be begun", reconnectInMillis: null, error });
    }
    this.#socket = socket;
    // From here on the gateway sends again what this one brings.
    this.#lingering = undefined;
    this.#listen(socket, attempt, url);
  }

  #listen(socket: SocketLike, attempt: number, url: string): void {
    const current = (): boolean => attempt === this.#attempt;
    let error: unknown;
    let refusal: Refusal | undefined;
    socket.onopen = () => {
      if (current()) this.#opened(socket, url);
    };
    socket.onmessage = (event: { data: unknown }) => {
      if (current()) this.#silence.broken();
      if (current() || this.#lingering === socket) this.#received(event.data);
    };
    const why = () => ({ error: refusal ? new RefusedError(refusal.status) : error, refusal });
    // A close follows at once, except of a handshake that fails in Node.js before 24. Browsers say nothing here.
    socket.onerror = (event: { error?: unknown; message?: unknown }) => {
      error = event.error ?? event.message;
      if (!current() || this.#state !== "connecting") return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#failed(CloseCode.Lost, "", why()), 0);
    };
    onRefusal(socket, (answer) => (refusal = answer));
    socket.onclose = (event: { code: number; reason: string }) => {
      if (current()) this.#failed(event.code, event.reason, why());
      else if (this.#lingering === socket) this.#session.ended(event.code, Date.now());
    };
  }

  #opened(socket: SocketLike, url: string): void {
    clearTimeout(this.#timer);
    const failedAttempts = this.#failures;
    this.#stable = setTimeout(() => (this.#failures = 0), this.#options.stableAfterMillis ?? STABLE_AFTER_MILLIS);
    this.#refusedToken = undefined;
    this.#isFirst = true;
    if (!this.#session.isKept) this.#confirmations.begin();
    this.#silence.broken();
    const attempt = this.#attempt;
    // Before anything that a listener sends.
    for (const text of this.#queue.splice(0)) socket.send(text);
    this.#become("open");
    if (attempt !== this.#attempt) return;
    this.#events.emit("open", { url, protocol: socket.protocol, failedAttempts });
  }

  #received(data: unknown): void {
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    const message = parse(data);
    const session = isFirst && message ? asSession(message.value) : undefined;
    if (session) return this.#began(session);
    // Not of an endpoint with `resume`, or no longer.
    if (isFirst) this.#beganAnew(undefined);
    this.#session.count();
    if (!message) return void this.#events.emit("unparsable", data);
    this.#heard(message.value);
  }

  #heard(message: unknown): void {
    const ack = asAck(message);
    if (ack) return void this.#events.emit("ack", ack);
    const refreshed = this.#refreshing && asRefreshed(message);
    if (refreshed) return this.#refreshing?.settle(refreshed.expiresAt);
    const error = asError(message);
    if (error?.error.code === "refresh_refused") this.#refreshing?.fail(new RefreshError(error.error.message));
    if (error) return void this.#events.emit("error", error);
    const confirmable = asConfirmable(message);
    if (confirmable) return void this.#confirm(confirmable.id, confirmable.data as Received);
    this.#events.emit("message", message as Received);
  }

  /** Hands on a message whose sender waits for the client's word, and says it. Never rejects. */
  async #confirm(id: string, message: Received): Promise<void> {
    const { connection } = this.#confirmations;
    const isTaken = this.#events.emit("message", message);
    const { confirm } = this.#options;
    if (confirm) {
      try {
        await confirm(message);
      } catch (error) {
        this.#events.emit("unconfirmed", { message, error });
        return;
      }
    } else if (!isTaken) {
      return;
    }
    this.#confirmations.keep(id, connection);
    this.#sayConfirmations();
  }

  #sayConfirmations(): void {
    // Before the first message it is not known which connection this is.
    if (this.#state !== "open" || this.#isFirst || this.#socket?.readyState !== OPEN) return;
    for (const id of this.#confirmations.take()) this.#socket.send(confirmation(id));
  }

  #began(frame: SessionFrame): void {
    const { connectionId, resumed } = frame;
    const reason = frame.reason ?? (resumed ? undefined : this.#session.whyNotAsked);
    this.#session.begin(frame);
    for (const socket of this.#abandoned.splice(0)) socket.close();
    if (!resumed) this.#beganAnew(frame);
    this.#sayConfirmations();
    this.#events.emit("session", reason === undefined ? { connectionId, resumed } : { connectionId, resumed, reason });
  }

  /** It is another connection than the one before. */
  #beganAnew(frame: SessionFrame | undefined): void {
    if (!frame) this.#forgetSession();
    this.#connectionId = frame?.connectionId;
    this.#confirmations.begin();
  }

  // ---- the end of one

  /** The socket has not ended; it is as good as that. */
  #gaveUp(reason: string): void {
    const socket = this.#socket;
    // Its first message says what the others are.
    const lingers = socket?.readyState === OPEN && !this.#isFirst;
    this.#failed(CloseCode.Lost, reason, {});
    if (!socket || abandon(socket)) return;
    // One that is not open yet ends without a close frame.
    if (!this.#session.isKept || socket.readyState !== OPEN) return socket.close();
    this.#abandoned.push(socket);
    if (lingers && this.#state === "waiting") this.#lingering = socket;
  }

  #failed(code: number, reason: string, why: { error?: unknown; refusal?: Refusal | undefined }): void {
    const { refusal, error } = why;
    this.#session.ended(code, Date.now());
    const more = { ...(refusal && { status: refusal.status }), ...(error !== undefined && { error }) };
    const verdict = refusal ? afterRefusal(refusal.status) : after(code);
    if (verdict === "stop" || (verdict === "new-token" && this.#options.token === undefined)) {
      return this.#stop({ code, reason, reconnectInMillis: null, ...more });
    }
    if (verdict === "new-token") this.#refusedToken = this.#lastToken ?? undefined;
    this.#leave();
    const least = refusal?.retryAfterMillis ?? leastWaitMillis(code, reason);
    // Beside what is asked for, not instead: those who were told the same do not come back together.
    const delay = least + delayMillis(this.#failures, this.#backoff, this.#options.random ?? Math.random);
    this.#mayHurry = least === 0;
    this.#failures += 1;
    this.#urlIndex += 1;
    this.#timer = setTimeout(() => void this.#open(), delay);
    const attempt = this.#attempt;
    this.#become("waiting");
    this.#events.emit("close", { code, reason, reconnectInMillis: attempt === this.#attempt ? delay : null, ...more });
  }

  #stop(closed: ClosedInfo, end: () => void = () => undefined): void {
    this.#leave();
    this.#queue.length = 0;
    this.#forgetSession();
    this.#connectionId = undefined;
    this.#confirmations.begin();
    this.#closed = closed;
    end();
    this.#become("stopped");
    this.#events.emit("close", closed);
  }

  /** Has nothing to do with the last attempt any more. */
  #leave(): void {
    this.#attempt += 1;
    this.#socket = undefined;
    this.#refreshing?.fail(new RefreshError("the connection has ended"));
    for (const timer of [this.#timer, this.#stable]) clearTimeout(timer);
    this.#silence.end();
  }

  #forgetSession(): void {
    this.#session.forget();
    this.#lingering = undefined;
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
    if (this.#state === "waiting" && this.#mayHurry) void this.#open();
  };
}
