// What is being written and is not saved, for this tab: it outlives the page when the token ends, until one has signed in
// again. Nothing of it is stored, so closing the tab asks first.
import { untrack } from 'svelte';
import { session } from '../../api/session.svelte';
import type { Draft } from './document';

export interface NewDraft {
  template: string;
  text: string;
  message: string;
}

class Drafts {
  /** By the endpoint's id. */
  private all = $state.raw<Record<string, Draft>>({});
  /** Of an endpoint that is not there yet. */
  fresh = $state.raw<NewDraft | null>(null);

  of(id: string): Draft | null {
    return this.all[id] ?? null;
  }

  put(id: string, draft: Draft | null): void {
    // Whoever writes it need not run again when it is written.
    untrack(() => {
      const { [id]: _, ...others } = this.all;
      this.all = draft ? { ...others, [id]: draft } : others;
    });
  }

  clear(): void {
    this.all = {};
    this.fresh = null;
  }

  get some(): boolean {
    return this.fresh !== null || Object.keys(this.all).length > 0;
  }
}

export const drafts = new Drafts();

$effect.root(() => {
  $effect(() => {
    if (!drafts.some) return;
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  });
  $effect(() => {
    // Who signs out has been asked, and somebody else may come.
    if (session.state === 'login' && !session.interrupted) drafts.clear();
  });
});

export const LEAVE = 'What you have written is not saved. Leave all the same?';
