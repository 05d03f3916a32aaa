import { describe, expect, it } from 'vitest';
import { append, change, find, JsonFault, locate, parse, placeInMessage, pretty, steps, tryParse } from './json';

const marked = (text: string, path: string) => {
  const { from, to } = locate(parse(text), path);
  return text.slice(from, to);
};
const changed = (text: string, path: string[], value: string | undefined) => {
  const edit = change(text, path, value);
  return edit && text.slice(0, edit.from) + edit.insert + text.slice(edit.to);
};

describe('parse', () => {
  it('takes what JSON.parse takes, and says where each value stands', () => {
    for (const text of ['{"a": [1, -2.5e3, {"b": null}], "c": "x\\"y\\u00e9", "d": true}', ' [] ', '"a"', '0', '{}']) {
      const value = (node: ReturnType<typeof parse>): unknown =>
        node.members ? Object.fromEntries(node.members.map((member) => [member.key, value(member.node)])) : node.items ? node.items.map(value) : node.value;
      expect(value(parse(text))).toEqual(JSON.parse(text));
    }
  });
  it('refuses what JSON.parse refuses, with a place', () => {
    for (const text of ['', '{', '{"a" 1}', '[1,]', '{"a": 1,}', '"a', '01', 'nul', '{} x', '"\\q"', "{'a': 1}"]) {
      expect(() => JSON.parse(text)).toThrow();
      expect(() => parse(text), text).toThrow(JsonFault);
    }
  });
  it('does not fall over deep nesting', () => {
    expect(tryParse('['.repeat(100_000))).toBeNull();
  });
});

describe('locate', () => {
  const text = '{"settings": {"maxInFlight": 0}, "routes": [{"name": "a", "backends": [{"topic": "x"}]}], "rutes": 1}';
  it('marks a scalar with its name, and of what is nested the name', () => {
    expect(marked(text, 'settings.maxInFlight')).toBe('"maxInFlight": 0');
    expect(marked(text, 'settings')).toBe('"settings"');
    expect(marked(text, 'routes[0].backends[0]')).toBe('{');
    expect(marked(text, 'routes[0].backends[0].topic')).toBe('"topic": "x"');
    expect(marked(text, 'rutes')).toBe('"rutes": 1');
  });
  it('marks the deepest part of a path that is there', () => {
    expect(marked(text, 'settings.outbox.maxBytes')).toBe('"settings"');
    expect(marked(text, '')).toBe('{');
  });
});

it('reads paths as the server writes them', () => {
  expect(steps('routes[3].expression.or[0].equal')).toEqual(['routes', 3, 'expression', 'or', 0, 'equal']);
});

it('finds the place that a message of the server names, in bytes of a line', () => {
  const text = '{\n  "é": x\n}';
  expect(text[placeInMessage(text, 'expected value at line 2 column 9')!]).toBe('x');
  expect(placeInMessage(text, 'something else')).toBeNull();
});

describe('change', () => {
  it('gives a value another text and leaves the rest byte for byte', () => {
    expect(changed('{"a":1.50,  "b" : 2}', ['b'], '3')).toBe('{"a":1.50,  "b" : 3}');
  });
  it('adds what is not there, with the objects on the way, indented as its neighbours', () => {
    expect(changed('{\n  "a": 1\n}', ['b', 'c'], '2')).toBe('{\n  "a": 1,\n  "b": {"c": 2}\n}');
    expect(changed('{"a": 1}', ['b'], '2')).toBe('{"a": 1, "b": 2}');
    expect(changed('{}', ['b'], '2')).toBe('{"b": 2}');
  });
  it('takes away with the comma', () => {
    expect(changed('{"a": 1, "b": 2}', ['b'], undefined)).toBe('{"a": 1}');
    expect(changed('{"a": 1, "b": 2}', ['a'], undefined)).toBe('{"b": 2}');
    expect(changed('{"a": 1}', ['a'], undefined)).toBe('{}');
    expect(changed('{"a": 1}', ['x'], undefined)).toBeNull();
  });
  it('does nothing to what is no JSON, or through what is no object', () => {
    expect(changed('{', ['a'], '1')).toBeNull();
    expect(changed('{"a": 1}', ['a', 'b'], '1')).toBeNull();
  });
  it('gives JSON that has the value', () => {
    for (const text of ['{}', '{"x": {}}', '{"x": {"y": 1}, "z": []}', '{\n "x": {\n  "w": 2\n }\n}']) {
      const after = changed(text, ['x', 'y'], '"new"')!;
      expect(find(parse(after), ['x', 'y'])?.value).toBe('new');
    }
  });
});

it('indents without touching numbers', () => {
  expect(pretty('{"a":1.50,"b":[1e999,{"c":12345678901234567890}]}')).toBe('{\n  "a": 1.50,\n  "b": [1e999, {"c": 12345678901234567890}]\n}');
  expect(pretty('not json')).toBe('not json');
});

describe('an item at the end of a list', () => {
  const put = (text: string, item: string) => {
    const edit = append(text, ['routes'], item)!;
    return text.slice(0, edit.from) + edit.insert + text.slice(edit.to);
  };
  it('stands as its neighbours stand', () => {
    expect(put('{"routes": [{"a": 1}]}', '2')).toBe('{"routes": [{"a": 1}, 2]}');
    expect(put('{\n  "routes": [\n    1\n  ]\n}', '{"b": 2}')).toBe('{\n  "routes": [\n    1,\n    {"b": 2}\n  ]\n}');
  });
  it('makes the list when there is none, and leaves alone what is no list', () => {
    expect(put('{}', '1')).toBe('{"routes": [1]}');
    expect(put('{"routes": []}', '1')).toBe('{"routes": [1]}');
    expect(append('{"routes": 1}', ['routes'], '1')).toBeNull();
  });
});
