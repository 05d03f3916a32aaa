// Keys of the whole page: `/` searches, `g` and a letter goes to a page, `?` tells. They can be switched off, since
// single letters get in the way of some people's input (WCAG 2.1.4).
import { router } from '../lib/router.svelte';
import { ENTRIES } from './pages';

const KEY = 'wsgateway.shortcuts';
const SEQUENCE_MILLIS = 1500;

class Shortcuts {
  on = $state(localStorage.getItem(KEY) !== 'off');
  searching = $state(false);
  helping = $state(false);
  private awaiting = 0;

  set(on: boolean): void {
    this.on = on;
    localStorage.setItem(KEY, on ? 'on' : 'off');
  }

  press(event: KeyboardEvent): void {
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key === 'k') {
      event.preventDefault();
      this.searching = true;
      return;
    }
    if (!this.on || control || event.altKey || isWritten(event) || document.querySelector('dialog[open]')) return;
    const entry = performance.now() < this.awaiting && ENTRIES.find((each) => each.letter === event.key);
    this.awaiting = 0;
    if (entry) router.go(entry.href);
    else if (event.key === 'g') this.awaiting = performance.now() + SEQUENCE_MILLIS;
    else if (event.key === '/') this.searching = true;
    else if (event.key === '?') this.helping = true;
    else return;
    event.preventDefault();
  }
}

/** Whether the key goes into something that is written in; also inside of a shadow tree. */
function isWritten(event: KeyboardEvent): boolean {
  const target = event.composedPath()[0];
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

export const shortcuts = new Shortcuts();
