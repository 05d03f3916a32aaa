// The few fields that most people change, for the form beside the editor. Everything about them – what they mean, their
// range, their default – comes from the JSON Schema.
import { find, type JsonNode } from '../../lib/json';
import { rangeOf, schemasAt, type Schema } from '../../lib/schema';

const COMMON = [
  'name',
  'path',
  'routeSelector',
  'settings.maxMessageBytes',
  'settings.maxInFlight',
  'settings.ordering',
  'settings.idleTimeoutInSeconds',
  'settings.maxConnectionDurationInSeconds',
  'settings.heartbeatIntervalInSeconds',
  'settings.onVersionChange',
  'settings.outbox.maxBytes',
  'throttling.maxConnections',
];

export interface Field {
  path: string[];
  label: string;
  help: string;
  /** Of a number. */
  min?: number;
  max?: number;
  kind: 'text' | 'number' | 'choice';
  choices: string[];
  placeholder: string;
}

export function fields(schema: Schema): Field[] {
  return COMMON.flatMap((name) => {
    const path = name.split('.');
    const found = schemasAt(schema, path)[0];
    return found ? [fieldOf(path, found)] : [];
  });
}

function fieldOf(path: string[], schema: Schema): Field {
  const choices = (schema.enum ?? []).filter((value): value is string => typeof value === 'string');
  const types = [schema.type ?? []].flat();
  const kind = choices.length ? 'choice' : types.includes('integer') || types.includes('number') ? 'number' : 'text';
  const fallback = schema.default === undefined || schema.default === null ? 'none' : String(schema.default);
  return {
    path,
    label: path.join('.').replace(/^settings\./, ''),
    help: [schema.description, kind === 'number' ? rangeOf(schema) : ''].filter(Boolean).join(' '),
    kind,
    choices,
    placeholder: fallback,
    ...(schema.minimum === undefined ? {} : { min: schema.minimum }),
    ...(schema.maximum === undefined ? {} : { max: schema.maximum }),
  };
}

export function valueOf(root: JsonNode | null, field: Field): string {
  const value = find(root, field.path)?.value;
  return value === undefined || value === null ? '' : String(value);
}

/** The JSON text of what was typed; `undefined` takes the field away. */
export function written(field: Field, typed: string): string | undefined {
  if (typed === '') return undefined;
  return field.kind === 'number' && /^-?\d+$/.test(typed) ? typed : JSON.stringify(typed);
}

