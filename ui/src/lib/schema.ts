// What may be written at a place of a document, by its JSON Schema. Works on unfinished texts: it reads only what stands
// before the cursor.
import type { Step } from './json';

export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string | string[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema | boolean;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  maxItems?: number;
}

export interface Place {
  /** Where the name or value under the cursor stands in the document. For a name: the object it is in. */
  path: Step[];
  kind: 'key' | 'value';
  /** Where the word under the cursor begins. */
  from: number;
  /** Whether the word begins with a quote. */
  quoted: boolean;
  /** Names that the object has before the cursor. */
  present: string[];
}

interface Frame {
  object: boolean;
  key: string | null;
  index: number;
  keys: string[];
  awaits: 'key' | 'colon' | 'value' | 'comma';
}

/** The place at `at`; null inside of a finished value and between tokens where nothing can be written. */
export function placeAt(text: string, at: number): Place | null {
  const frames: Frame[] = [];
  const done = () => {
    const frame = frames.at(-1);
    if (frame) frame.awaits = 'comma';
  };
  let here = 0;
  while (here < at) {
    const char = text[here]!;
    const frame = frames.at(-1);
    if (char === '"') {
      let end = here + 1;
      while (end < text.length && text[end] !== '"' && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1;
      if (end >= at) return place(frames, here, true);
      if (frame?.object && frame.awaits === 'key') {
        frame.key = unquote(text.slice(here, end + 1));
        frame.keys.push(frame.key);
        frame.awaits = 'colon';
      } else done();
      here = end + 1;
    } else if (char === '{' || char === '[') {
      frames.push({ object: char === '{', key: null, index: 0, keys: [], awaits: char === '{' ? 'key' : 'value' });
      here += 1;
    } else if (char === '}' || char === ']') {
      frames.pop();
      done();
      here += 1;
    } else if (char === ',') {
      if (frame) {
        frame.index += 1;
        frame.awaits = frame.object ? 'key' : 'value';
      }
      here += 1;
    } else if (char === ':') {
      if (frame?.object) frame.awaits = 'value';
      here += 1;
    } else if (/[\w.+-]/.test(char)) {
      let end = here;
      while (end < text.length && /[\w.+-]/.test(text[end]!)) end += 1;
      if (end >= at) return place(frames, here, false);
      done();
      here = end;
    } else here += 1;
  }
  return place(frames, at, false);
}

function unquote(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.slice(1, -1);
  }
}

function place(frames: Frame[], from: number, quoted: boolean): Place | null {
  const frame = frames.at(-1);
  if (!frame || frame.awaits === 'comma' || frame.awaits === 'colon') return null;
  const kind = frame.awaits;
  const around = frames.slice(0, -1).map(step);
  return { path: kind === 'key' ? around : [...around, step(frame)], kind, from, quoted, present: frame.keys };
}

const step = (frame: Frame): Step => (frame.object ? (frame.key ?? '') : frame.index);

/** The schemas that a value at `path` may follow. */
export function schemasAt(root: Schema, path: Step[]): Schema[] {
  let here = alternatives(root, root);
  for (const part of path) {
    here = here.flatMap((schema) => {
      const next = typeof part === 'number' ? schema.items : schema.properties?.[part];
      return next && typeof next === 'object' ? alternatives(root, next) : [];
    });
  }
  return here;
}

/** A schema's own alternatives, references followed; descriptions of what refers win. */
function alternatives(root: Schema, schema: Schema, depth = 0): Schema[] {
  if (depth > 16) return [];
  if (schema.$ref) {
    const target = root.$defs?.[schema.$ref.replace('#/$defs/', '')];
    return target ? alternatives(root, { ...target, ...(schema.description ? { description: schema.description } : {}) }, depth + 1) : [];
  }
  const nested = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  if (nested.length === 0) return [schema];
  const parts = nested.flatMap((each) => alternatives(root, each, depth + 1)).filter((each) => each.type !== 'null');
  const outer = { ...schema };
  delete outer.anyOf;
  delete outer.oneOf;
  return outer.properties ? [outer, ...parts] : parts.map((part) => (part.description ? part : { ...part, ...pick(outer) }));
}

const pick = (schema: Schema): Schema => ({
  ...(schema.description ? { description: schema.description } : {}),
  ...(schema.default !== undefined ? { default: schema.default } : {}),
});

export interface Proposal {
  label: string;
  /** The JSON text to write. */
  text: string;
  /** Where the cursor belongs after it, counted from its end. */
  back: number;
  info: string;
  detail: string;
}

export function proposals(root: Schema, at: Place): Proposal[] {
  const schemas = schemasAt(root, at.path);
  return at.kind === 'key' ? schemas.flatMap((schema) => keys(root, schema, at.present)) : schemas.flatMap(values);
}

function keys(root: Schema, schema: Schema, present: string[]): Proposal[] {
  return Object.entries(schema.properties ?? {})
    .filter(([name]) => !present.includes(name))
    .map(([name, property]) => {
      const resolved = alternatives(root, property)[0] ?? property;
      const { text, back } = skeleton(resolved);
      const info = [property.description ?? resolved.description, rangeOf(resolved), defaultOf(property)].filter(Boolean).join('\n');
      return { label: name, text: `${JSON.stringify(name)}: ${text}`, back, info, detail: typeOf(resolved) };
    });
}

function values(schema: Schema): Proposal[] {
  const listed = schema.enum ?? (schema.const === undefined ? [] : [schema.const]);
  const boolean = typeOf(schema) === 'boolean' && listed.length === 0 ? [true, false] : [];
  return [...listed, ...boolean]
    .filter((value) => value !== null)
    .map((value) => ({ label: String(value), text: JSON.stringify(value), back: 0, info: schema.description ?? '', detail: schema.default === value ? 'default' : '' }));
}

function typeOf(schema: Schema): string {
  const types = [schema.type ?? []].flat().filter((type) => type !== 'null');
  return types.join(' or ') || (schema.properties ? 'object' : '');
}

function skeleton(schema: Schema): { text: string; back: number } {
  const type = typeOf(schema);
  if (type === 'string') return { text: '""', back: 1 };
  if (type === 'object') return { text: '{}', back: 1 };
  if (type === 'array') return { text: '[]', back: 1 };
  return { text: '', back: 0 };
}

export function rangeOf(schema: Schema): string {
  if (schema.minimum !== undefined && schema.maximum !== undefined) return `${schema.minimum}–${schema.maximum}`;
  if (schema.maxLength !== undefined) return `at most ${schema.maxLength} characters`;
  if (schema.maxItems !== undefined) return `at most ${schema.maxItems}`;
  return '';
}

function defaultOf(schema: Schema): string {
  return schema.default === undefined || schema.default === null ? '' : `default: ${JSON.stringify(schema.default)}`;
}
