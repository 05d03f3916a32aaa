// Notices a network that has gone by what no longer arrives. Browsers do not show the gateway's pings to a page.

export interface Heartbeat {
  /** The event that is sent; a route of the endpoint must answer it, or an ack. */
  event: unknown;
  /** It is sent when nothing has arrived for so long. */
  everyMillis: number;
  /** When nothing arrives for so long after it, the socket is given up. */
  answerWithinMillis: number;
}

export class Silence {
  readonly #heartbeat: Heartbeat | undefined;
  readonly #ask: (event: string) => void;
  readonly #tooLong: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(heartbeat: Heartbeat | undefined, ask: (event: string) => void, tooLong: () => void) {
    this.#heartbeat = heartbeat;
    this.#ask = ask;
    this.#tooLong = tooLong;
  }

  /** Something has arrived, or the socket is new. */
  broken(): void {
    const heartbeat = this.#heartbeat;
    if (heartbeat === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = setTimeout(this.#tooLong, heartbeat.answerWithinMillis);
      this.#ask(JSON.stringify(heartbeat.event));
    }, heartbeat.everyMillis);
  }

  /** There is no socket to listen to. */
  end(): void {
    clearTimeout(this.#timer);
  }
}
