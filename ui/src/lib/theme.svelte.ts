// Light, dark, or what the system says.

export type Theme = 'system' | 'light' | 'dark';
const KEY = 'wsgateway.theme';
const dark = window.matchMedia('(prefers-color-scheme: dark)');

class ThemeChoice {
  choice = $state<Theme>((localStorage.getItem(KEY) as Theme | null) ?? 'system');
  systemDark = $state(dark.matches);

  constructor() {
    dark.addEventListener('change', () => (this.systemDark = dark.matches));
    this.apply();
  }

  get isDark(): boolean {
    return this.choice === 'dark' || (this.choice === 'system' && this.systemDark);
  }

  set(choice: Theme): void {
    this.choice = choice;
    localStorage.setItem(KEY, choice);
    this.apply();
  }

  private apply(): void {
    if (this.choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
  }
}

export const theme = new ThemeChoice();
