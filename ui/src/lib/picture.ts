// The picture of an endpoint's routes: event → route → backends, as boxes and lines. Pure: a document in, places out.
import type { components } from '../api/schema';

type Document = components['schemas']['EndpointDocument'];
type Route = components['schemas']['Route'];
type Backend = components['schemas']['Backend'];

/** A route by its name, or a route that there is one of by its type; and one of its backends by its number. */
export interface Figures {
  route: string;
  type: Route['type'] | null;
  backend?: number;
}
export interface Box {
  id: string;
  x: number;
  y: number;
  width: number;
  height: number;
  title: string;
  text: string;
  kind: 'trigger' | 'route' | 'backend' | 'nowhere';
  /** Where it stands in the document. */
  path: string;
  /** What the figures call it. */
  figures?: Figures;
}
export interface Line {
  id: string;
  from: [number, number];
  to: [number, number];
  /** Best effort, or a route that lets events go on. */
  dashed: boolean;
  /** Those of a route, or of one of its backends. */
  figures?: Figures;
}
export interface Picture {
  width: number;
  height: number;
  boxes: Box[];
  lines: Line[];
}

/** Between the columns there is room for the figures of the lines. */
const COLUMN_X = [0, 248, 632];
const WIDTHS = [144, 272, 344];
const HEIGHT = 48;
const GAP = 16;
const GROUP_GAP = 32;

const TRIGGERS: { types: Route['type'][]; title: string; text: string }[] = [
  { types: ['connect'], title: 'Handshake', text: 'of a client' },
  { types: ['custom', 'default'], title: 'Event', text: 'from a client' },
  { types: ['error'], title: 'Error', text: 'not taken' },
  { types: ['disconnect'], title: 'End', text: 'of a connection' },
];

/** With `refused`, also what is refused before a route could take it. */
export function draw(document: Document, refused = false): Picture {
  const boxes: Box[] = [];
  const lines: Line[] = [];
  const routes = (document.routes ?? []).map((route, place) => ({ route, place }));
  let y = 0;
  for (const trigger of TRIGGERS) {
    const of = routes.filter(({ route }) => trigger.types.includes(route.type));
    // Custom routes are looked at in document order; the default route takes what is left.
    of.sort((a, b) => Number(a.route.type === 'default') - Number(b.route.type === 'default') || a.place - b.place);
    if (of.length === 0 && trigger.title !== 'Event') continue;
    const top = y;
    const ends: [number, number][] = [];
    for (const { route, place } of of) {
      const path = `routes[${place}]`;
      const backends = route.backends ?? [];
      const height = Math.max(1, backends.length) * (HEIGHT + GAP) - GAP;
      const middle = y + height / 2;
      const called: Figures = { route: route.name, type: route.type };
      boxes.push({ ...box(path, 1, middle - HEIGHT / 2, `${route.name}`, conditionOf(route, document.routeSelector), 'route', path), figures: called });
      ends.push([COLUMN_X[1]!, middle]);
      if (backends.length === 0) {
        boxes.push(box(`${path}-none`, 2, y, 'Nowhere', 'taken and dropped', 'nowhere', path));
        lines.push(line(`${path}-none`, [COLUMN_X[1]! + WIDTHS[1]!, middle], [COLUMN_X[2]!, y + HEIGHT / 2], true));
      }
      for (const [number, backend] of backends.entries()) {
        const at = `${path}.backends[${number}]`;
        const top = y + number * (HEIGHT + GAP);
        const { title, text } = describe(backend);
        // What is echoed has no figures of its own: it is all that the route takes.
        const figures = backend.type === 'echo' ? called : { ...called, backend: number };
        boxes.push({ ...box(at, 2, top, title, text, 'backend', at), figures });
        lines.push({ ...line(at, [COLUMN_X[1]! + WIDTHS[1]!, middle], [COLUMN_X[2]!, top + HEIGHT / 2], backend.required === false), figures });
      }
      y += height + GAP;
    }
    const caught = of.some(({ route }) => route.type === 'default');
    if (trigger.title === 'Event' && (refused || !caught)) {
      const text = caught ? 'refused before a route' : of.length ? 'what is left is answered no_route' : 'every event is answered no_route';
      boxes.push({ ...box('none', 1, y, caught ? 'Refused' : 'No route', text, 'nowhere', 'routes'), figures: NO_ROUTE });
      ends.push([COLUMN_X[1]!, y + HEIGHT / 2]);
      y += HEIGHT + GAP;
    }
    const middle = (top + y - GAP) / 2;
    boxes.push(box(trigger.title, 0, middle - HEIGHT / 2, trigger.title, trigger.text, 'trigger', 'routes'));
    for (const [number, end] of ends.entries()) {
      const route = of[number]?.route;
      lines.push({ ...line(`${trigger.title}-${number}`, [WIDTHS[0]!, middle], end, route?.continue === true), figures: route ? { route: route.name, type: route.type } : NO_ROUTE });
    }
    y += GROUP_GAP - GAP;
  }
  return { width: COLUMN_X[2]! + WIDTHS[2]!, height: Math.max(HEIGHT, y - GROUP_GAP), boxes, lines };
}

/** What figures call the events that no route took. */
export const NO_ROUTE: Figures = { route: '', type: null };
function box(id: string, column: number, y: number, title: string, text: string, kind: Box['kind'], path: string): Box {
  return { id, x: COLUMN_X[column]!, y, width: WIDTHS[column]!, height: HEIGHT, title, text, kind, path };
}

const line = (id: string, from: [number, number], to: [number, number], dashed: boolean): Line => ({ id, from, to, dashed });

export function conditionOf(route: Route, selector: string | null | undefined): string {
  if (route.type === 'custom') {
    const when = route.key !== undefined && route.key !== null ? `${selector ?? 'key'} = ${route.key}` : expressionText(route.expression);
    return route.continue ? `${when}, then goes on` : when;
  }
  return { connect: 'each handshake', disconnect: 'each end', error: 'each error', default: 'what no other route took' }[route.type];
}

/** An expression in one line: `$.amount > 1000 and $.user exists`. */
export function expressionText(expression: unknown): string {
  if (!expression || typeof expression !== 'object') return '';
  const [operator, inside] = Object.entries(expression as Record<string, unknown>)[0] ?? ['', null];
  if (operator === 'and' || operator === 'or') {
    const parts = (Array.isArray(inside) ? inside : []).map((part) => {
      const text = expressionText(part);
      return / (and|or) /.test(text) ? `(${text})` : text;
    });
    return parts.join(` ${operator} `);
  }
  if (operator === 'not') return `not (${expressionText(inside)})`;
  const { path = '', value, source } = (inside ?? {}) as { path?: string; value?: unknown; source?: string };
  const subject = source === 'connection' ? `connection ${path}` : path;
  if (operator === 'exists') return value === false ? `${subject} missing` : `${subject} exists`;
  const signs: Record<string, string> = { equal: '=', notEqual: '≠', gt: '>', gte: '≥', lt: '<', lte: '≤', startsWith: 'starts with' };
  return `${subject} ${signs[operator] ?? operator} ${JSON.stringify(value)}`;
}

function describe(backend: Backend): { title: string; text: string } {
  const optional = backend.required === false ? ', best effort' : '';
  if (backend.type === 'http') return { title: `HTTP ${backend.method ?? 'POST'}${optional}`, text: backend.destination ?? '' };
  if (backend.type === 'kafka') return { title: `Kafka${optional}`, text: `topic ${backend.topic ?? ''}` };
  return { title: backend.raw ? 'Echo, raw' : 'Echo', text: 'back to the sender' };
}

/** As much of a text as is no wider than `width`, by the measure of who draws it. */
export function clipTo(text: string, width: number, measure: (text: string) => number): string {
  if (measure(text) <= width) return text;
  let [fits, tooLong] = [0, text.length];
  while (tooLong - fits > 1) {
    const middle = (fits + tooLong) >> 1;
    if (measure(`${text.slice(0, middle)}…`) <= width) fits = middle;
    else tooLong = middle;
  }
  return `${text.slice(0, fits)}…`;
}
