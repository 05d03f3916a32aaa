// A typed list of listeners.

type Listener<T> = (value: T) => void;

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Answers the function that takes the listener away again. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /** Whether somebody has listened, and nobody failed. */
  emit<Name extends keyof Events>(name: Name, value: Events[Name]): boolean {
    let isTaken = false;
    let isFailed = false;
    for (const listener of [...(this.#listeners.get(name) ?? [])] as Listener<Events[Name]>[]) {
      try {
        listener(value);
        isTaken = true;
      } catch (error) {
        isFailed = true;
        // A listener's fault is reported as one, and harms neither the others nor the connection.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    return isTaken && !isFailed;
  }
}
