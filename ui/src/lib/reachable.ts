// Addresses of listeners as a browser can use them.

const EVERYWHERE = /^([a-z]+:\/\/)(?:0\.0\.0\.0|\[::\])?(?=[:/]|$)/;

/** A node that listens on all addresses, and was not told how it is reached, is where this page came from. */
export function reachable(url: string, here: string): string {
  return url.replace(EVERYWHERE, (_, scheme: string) => `${scheme}${here}`).replace(/\/+$/, '');
}
