// The address bar holds the whole state: `#/endpoints/ep-1?tab=edit`. In the fragment, so that any file server will do.

class Router {
  path = $state<string[]>([]);
  query = $state<URLSearchParams>(new URLSearchParams());
  /** Asked before the page is left; false keeps it. */
  private guard: (() => boolean) | null = null;
  private hash = '';
  /** The place of the entry in the tab's history, kept in the entry: how far a refused step has to go back. */
  private place = 0;

  start(): void {
    this.place = placeOf(history.state) ?? 0;
    history.replaceState({ place: this.place }, '');
    this.read();
    window.addEventListener('hashchange', () => {
      if (location.hash === this.hash) return;
      const samePage = parse(location.hash).path.join('/') === this.path.join('/');
      if (!samePage && this.guard && !this.guard()) {
        // The step is undone; the entries before and behind stay as they are.
        history.go(this.place - (placeOf(history.state) ?? this.place + 1));
        return;
      }
      if (!samePage) this.guard = null;
      const place = placeOf(history.state);
      this.place = place ?? this.place + 1;
      if (place === null) history.replaceState({ place: this.place }, '');
      this.read();
    });
  }

  private read(): void {
    const { path, query } = parse(location.hash);
    this.hash = location.hash;
    // A page is not built anew when only its query changes.
    if (path.join('/') !== this.path.join('/')) this.path = path;
    this.query = query;
  }

  /** Asks before leaving a page with unsaved work. Returns what takes the question away again. */
  guardLeaving(question: () => boolean): () => void {
    this.guard = question;
    return () => {
      if (this.guard === question) this.guard = null;
    };
  }

  /** Asks as before leaving: for what ends the page in another way. */
  mayLeave(): boolean {
    return !this.guard || this.guard();
  }

  /** Changes parts of the query; null takes one away. Replaces the history entry unless `push`. */
  set(changes: Record<string, string | null>, push = false): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === '') query.delete(name);
      else query.set(name, value);
    }
    const hash = href(this.path, query);
    if (hash === this.hash) return;
    if (push) location.hash = hash;
    else {
      history.replaceState({ place: this.place }, '', hash);
      this.read();
    }
  }

  go(hash: string): void {
    location.hash = hash;
  }
}

function placeOf(state: unknown): number | null {
  return typeof state === 'object' && state !== null && 'place' in state && typeof state.place === 'number' ? state.place : null;
}

export function parse(hash: string): { path: string[]; query: URLSearchParams } {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  return { path: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

export function href(path: string[], query?: URLSearchParams | Record<string, string>): string {
  const search = new URLSearchParams(query).toString();
  return `#/${path.map(encodeURIComponent).join('/')}${search && `?${search}`}`;
}

export const router = new Router();
