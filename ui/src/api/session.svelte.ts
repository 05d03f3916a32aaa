// Who is here: the token, kept for this tab only, and the role that it has.
import { ask, Refused } from './client';

export const ROLES = ['viewer', 'publisher', 'editor', 'admin'] as const;
export type Role = (typeof ROLES)[number];
interface WhoAmI {
  name: string;
  role: Role;
}
type State = 'starting' | 'login' | 'in' | 'unreachable';

const KEY = 'wsgateway.token';

class Session {
  token = $state<string | null>(sessionStorage.getItem(KEY));
  state = $state<State>('starting');
  /** null: nobody is signed in yet. */
  role = $state<Role | null>(null);
  name = $state<string | null>(null);
  /** Why the login page is there, in the server's words. */
  reason = $state<string | null>(null);
  /** Whether the login page is there since the token is not accepted any more, and not since somebody wanted it. No `$state`:
   *  pages ask while they go away, and would see it as it was before. */
  interrupted = false;

  /** Whether the role allows it. What is not hidden all the same is answered 403 by the server, and that is shown. */
  can(needed: Role): boolean {
    return this.role !== null && ROLES.indexOf(this.role) >= ROLES.indexOf(needed);
  }

  /** Asks the node whether the token of this tab, or none, is good enough. */
  async start(): Promise<void> {
    try {
      await this.try(this.token);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        this.reason = this.token ? error.message : null;
        this.forget();
      } else {
        this.reason = error instanceof Error ? error.message : String(error);
        // Who guesses too often must wait; a node that is not ready yet is asked again.
        this.state = error instanceof Refused && error.status === 429 ? 'login' : 'unreachable';
      }
    }
  }

  /** Throws what the server said when the token is not good. */
  async login(token: string): Promise<void> {
    await this.try(token);
    sessionStorage.setItem(KEY, token);
  }

  logout(): void {
    this.reason = null;
    this.interrupted = false;
    this.forget();
  }

  /** A call was answered 401: the token was revoked, has expired, or is needed from now on. */
  refused(): void {
    if (this.state !== 'in') return;
    this.interrupted = true;
    this.reason = this.token ? 'the token is not accepted any more' : 'this cluster wants a token now';
    this.forget();
  }

  private async try(token: string | null): Promise<void> {
    const { role, name } = (await ask('GET', '/api/v1/whoami', { token })).data as WhoAmI;
    this.token = token;
    this.role = role;
    this.name = name;
    this.reason = null;
    this.interrupted = false;
    this.state = 'in';
  }

  private forget(): void {
    sessionStorage.removeItem(KEY);
    this.token = null;
    this.role = null;
    this.name = null;
    this.state = 'login';
  }
}

export const session = new Session();
