// Whether the node that serves this page answers.

class Link {
  /** When the first call since the last answer went unanswered; null: the node answers. */
  lostSince = $state<number | null>(null);
  lastHeard = $state<number | null>(null);

  heard(): void {
    this.lastHeard = Date.now();
    if (this.lostSince !== null) this.lostSince = null;
  }

  missed(): void {
    this.lostSince ??= Date.now();
  }
}

export const link = new Link();
