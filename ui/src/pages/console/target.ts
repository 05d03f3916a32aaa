// Where the console connects to, from what is chosen and typed.

/** The parameters of a path: `/chat/{room}/{*rest}` has `room` and `*rest`. */
export function parametersOf(path: string): string[] {
  return [...path.matchAll(/\{([^}]+)\}/g)].map((match) => match[1]!);
}

export function fillPath(path: string, values: Record<string, string>): string {
  return path.replace(/\{([^}]+)\}/g, (whole, name: string) => {
    const value = values[name];
    if (!value) return whole;
    return name.startsWith('*') ? value.split('/').map(encodeURIComponent).join('/') : encodeURIComponent(value);
  });
}

export function urlOf(address: string, path: string, query: string): string {
  // What a browser's address bar has is as good: https is wss.
  const [, scheme = 'ws', host = ''] = /^(?:(\w+):\/\/)?(.*)$/.exec(address.trim())!;
  const base = `${scheme.toLowerCase().replace(/^http/, 'ws')}://${host}`;
  const search = query.replace(/^\?/, '');
  return base.replace(/\/+$/, '') + path + (search && `?${search}`);
}

/** As the shell takes it. */
export function commandLine(url: string, protocols: string[]): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  return ['wsgateway ws', quote(url), ...protocols.map((name) => `--subprotocol ${quote(name)}`)].join(' ');
}
