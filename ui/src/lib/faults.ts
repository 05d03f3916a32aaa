// Whose fault an error is: the three who take part. The codes are those of the gateway's error frames and metrics.

export type Side = 'client' | 'gateway' | 'backend';

const SIDES: Record<string, Side> = {
  invalid_json: 'client',
  schema_violation: 'client',
  throttled: 'client',
  refresh_refused: 'client',
  handshake_refused: 'client',
  no_route: 'gateway',
  transform_failed: 'gateway',
  delivery_failed: 'backend',
};

/** null: a code that this page does not know. */
export const sideOf = (code: string): Side | null => SIDES[code] ?? null;

const WORDS: Record<Side, string> = {
  client: 'clients send what cannot be taken',
  gateway: 'the endpoint’s configuration does not take it',
  backend: 'a backend does not take it',
};
export const sideWords = (code: string): string => {
  const side = sideOf(code);
  return side ? WORDS[side] : '';
};
