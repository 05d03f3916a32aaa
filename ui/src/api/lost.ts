// No answer came: the node is gone, or the network to it. What that means depends on what was asked.

/** `read`: nothing was to be changed. `repeatable`: a write with an idempotency key, which is done once however often it is
 *  sent. `unknown`: any other write; it may have been done. */
export type Outcome = 'read' | 'repeatable' | 'unknown';

export class Lost extends Error {
  readonly outcome: Outcome;
  readonly at = Date.now();
  /** Whether whoever asked asks again without being told to. */
  again = false;
  constructor(message: string, outcome: Outcome) {
    super(message);
    this.outcome = outcome;
  }
}

/** What a call does: some that only look are POST or PUT, since they have a body. */
export function outcomeOf(method: string, url: string, hasKey: boolean): Outcome {
  const looks = method === 'GET' || /[?&]dryRun=true\b/.test(url) || (method === 'POST' && /\/(explain|diff)(\?|$)/.test(url));
  return looks ? 'read' : hasKey ? 'repeatable' : 'unknown';
}

/** What is said behind "this node does not answer"; null: it answers again, and nothing is left to say. `press` is the
 *  button that repeats a write. */
export function adviceOn(lost: Lost, answersAgain: boolean, press: string): string | null {
  if (lost.outcome === 'unknown') {
    return answersAgain ? 'It answers again. Whether it was done is not known: look before you repeat it.' : 'Whether it was done is not known.';
  }
  if (answersAgain) return null;
  if (lost.outcome === 'repeatable') return `Press ${press} again; repeating it is safe.`;
  return lost.again ? 'It is asked again.' : '';
}
