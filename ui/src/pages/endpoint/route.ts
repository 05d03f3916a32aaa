// A custom route as the form makes it: one condition, one backend. Everything else is written in the document.

export interface RouteForm {
  name: string;
  when: 'equal' | 'exists' | 'key';
  path: string;
  value: string;
  to: 'echo' | 'http' | 'kafka';
  target: string;
}

/** A typed text is what it is as JSON, and else a text: `5`, `true`, `"5"`, `buy`. */
function valueOf(typed: string): unknown {
  try {
    const value = JSON.parse(typed) as unknown;
    return typeof value === 'object' && value !== null ? typed : value;
  } catch {
    return typed;
  }
}

function backendOf(form: RouteForm): object {
  if (form.to === 'http') return { type: 'http', destination: form.target };
  if (form.to === 'kafka') return { type: 'kafka', topic: form.target };
  return { type: 'echo' };
}

/** The JSON text of the route; null while something is missing. */
export function routeText(form: RouteForm): string | null {
  const { name, when, path, value } = form;
  if (!name || (form.to !== 'echo' && !form.target) || (when !== 'key' && !path) || (when !== 'exists' && !value)) return null;
  const condition = when === 'key' ? { key: value } : { expression: when === 'exists' ? { exists: { path } } : { equal: { path, value: valueOf(value) } } };
  const route = { type: 'custom', name, ...condition, backends: [backendOf(form)] };
  return JSON.stringify(route).replace(/("(?:[^"\\]|\\.)*")|([:,])/g, (_, text?: string, sign?: string) => text ?? `${sign} `);
}
