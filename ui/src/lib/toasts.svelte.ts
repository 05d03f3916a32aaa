// Short notes of what was done, some with a way back.

export interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
}

const SECONDS = 8;
const SECONDS_WITH_ACTION = 20;

class Toasts {
  list = $state<Toast[]>([]);
  private last = 0;

  show(text: string, action?: Toast['action']): void {
    const id = ++this.last;
    this.list.push(action ? { id, text, action } : { id, text });
    setTimeout(() => this.drop(id), (action ? SECONDS_WITH_ACTION : SECONDS) * 1000);
  }

  drop(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();
