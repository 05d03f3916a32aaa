// JSON with places: what is where in a text. Documents are shown and sent back byte for byte, so they are edited as
// texts; and the server names faults by path (`routes[0].backends[1].topic`), which must become a line.

export interface Member {
  key: string;
  from: number;
  to: number;
  node: JsonNode;
}
export interface JsonNode {
  type: 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null';
  from: number;
  to: number;
  value?: string | number | boolean | null;
  members?: Member[];
  items?: JsonNode[];
}
export type Step = string | number;
export interface Edit {
  from: number;
  to: number;
  insert: string;
}

export class JsonFault extends Error {
  readonly at: number;
  constructor(message: string, at: number) {
    super(message);
    this.at = at;
  }
}

export function parse(text: string): JsonNode {
  const parser = new Parser(text);
  const node = parser.value(0);
  parser.blank();
  if (parser.at < text.length) throw new JsonFault('nothing may follow the value', parser.at);
  return node;
}

/** As `parse`; null for a text that is no JSON. */
export function tryParse(text: string): JsonNode | null {
  try {
    return parse(text);
  } catch {
    return null;
  }
}

const DEPTH_MAX = 256;

class Parser {
  at = 0;
  private readonly text: string;
  constructor(text: string) {
    this.text = text;
  }

  blank(): void {
    while (' \t\r\n'.includes(this.text[this.at] ?? 'x')) this.at += 1;
  }

  value(depth: number): JsonNode {
    if (depth > DEPTH_MAX) throw new JsonFault('too deep', this.at);
    this.blank();
    const first = this.text[this.at];
    if (first === '{') return this.object(depth);
    if (first === '[') return this.array(depth);
    if (first === '"') return this.string();
    return this.scalar();
  }

  private object(depth: number): JsonNode {
    const node: JsonNode = { type: 'object', from: this.at, to: this.at, members: [] };
    this.at += 1;
    this.blank();
    if (this.text[this.at] !== '}') {
      do {
        this.blank();
        if (this.text[this.at] !== '"') throw new JsonFault('a name in quotes belongs here', this.at);
        const name = this.string();
        this.blank();
        this.expect(':');
        const value = this.value(depth + 1);
        node.members!.push({ key: name.value as string, from: name.from, to: name.to, node: value });
      } while (this.more('}'));
    }
    this.expect('}');
    node.to = this.at;
    return node;
  }

  private array(depth: number): JsonNode {
    const node: JsonNode = { type: 'array', from: this.at, to: this.at, items: [] };
    this.at += 1;
    this.blank();
    if (this.text[this.at] !== ']') {
      do node.items!.push(this.value(depth + 1));
      while (this.more(']'));
    }
    this.expect(']');
    node.to = this.at;
    return node;
  }

  private more(end: string): boolean {
    this.blank();
    if (this.text[this.at] === ',') {
      this.at += 1;
      return true;
    }
    if (this.text[this.at] !== end) throw new JsonFault(`"," or "${end}" belongs here`, this.at);
    return false;
  }

  private string(): JsonNode {
    const from = this.at;
    this.at += 1;
    while (this.text[this.at] !== '"') {
      if (this.at >= this.text.length || this.text[this.at] === '\n') throw new JsonFault('the text has no end', from);
      this.at += this.text[this.at] === '\\' ? 2 : 1;
    }
    this.at += 1;
    return { type: 'string', from, to: this.at, value: this.read(from) as string };
  }

  private scalar(): JsonNode {
    const from = this.at;
    while (/[\w.+-]/.test(this.text[this.at] ?? '')) this.at += 1;
    if (this.at === from) throw new JsonFault(from >= this.text.length ? 'the text ends too early' : 'a value belongs here', from);
    const value = this.read(from);
    const type = value === null ? 'null' : typeof value === 'boolean' ? 'boolean' : 'number';
    return { type, from, to: this.at, value };
  }

  private read(from: number): string | number | boolean | null {
    try {
      return JSON.parse(this.text.slice(from, this.at)) as string | number | boolean | null;
    } catch {
      throw new JsonFault(`${this.text.slice(from, this.at)} is no JSON`, from);
    }
  }

  private expect(char: string): void {
    this.blank();
    if (this.text[this.at] !== char) throw new JsonFault(`"${char}" belongs here`, this.at);
    this.at += 1;
  }
}

/** `routes[3].expression.or[0]` as steps. */
export function steps(path: string): Step[] {
  const found: Step[] = [];
  for (const part of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) found.push(part[2] === undefined ? part[1]! : Number(part[2]));
  return found;
}

function child(node: JsonNode, step: Step): JsonNode | undefined {
  if (typeof step === 'number') return node.items?.[step];
  // The last one counts, as for JSON.parse.
  return node.members?.findLast((member) => member.key === step)?.node;
}

export function find(node: JsonNode | undefined | null, path: Step[]): JsonNode | undefined {
  let here: JsonNode | undefined = node ?? undefined;
  for (const step of path) here = here && child(here, step);
  return here;
}

/** The place in the text of a path of the server; of one that is not there, the deepest part that is. A scalar is marked
 *  with its name; of an object or list, which may be long, the name only. */
export function locate(root: JsonNode, path: string): { from: number; to: number } {
  let here = root;
  let mark = { from: root.from, to: Math.min(root.from + 1, root.to) };
  for (const step of steps(path)) {
    const next = child(here, step);
    if (!next) break;
    const name = here.members?.findLast((member) => member.node === next);
    const nested = next.type === 'object' || next.type === 'array';
    mark = { from: name?.from ?? next.from, to: nested ? (name?.to ?? next.from + 1) : next.to };
    here = next;
  }
  return mark;
}

/** The place that a JSON error of the server names: `… at line 3 column 14`. Columns count bytes. */
export function placeInMessage(text: string, message: string): number | null {
  const found = /line (\d+) column (\d+)/.exec(message);
  if (!found) return null;
  const lines = text.split('\n');
  const line = Math.min(Number(found[1]), lines.length);
  const before = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  const bytesBefore = new TextEncoder().encode(lines[line - 1] ?? '').slice(0, Math.max(0, Number(found[2]) - 1));
  return before + new TextDecoder().decode(bytesBefore).length;
}

/** The text indented; numbers and texts stay as they are written. */
export function pretty(text: string): string {
  const root = tryParse(text);
  return root ? write(text, root, '') : text;
}

const LINE_MAX = 88;

function write(text: string, node: JsonNode, indent: string): string {
  const inner = indent + '  ';
  const parts = node.members
    ? node.members.map((member) => `${text.slice(member.from, member.to)}: ${write(text, member.node, inner)}`)
    : node.items?.map((item) => write(text, item, inner));
  if (!parts) return text.slice(node.from, node.to);
  const [open, close] = node.members ? ['{', '}'] : ['[', ']'];
  if (parts.length === 0) return open + close;
  const short = `${open}${parts.join(', ')}${close}`;
  const flat = !parts.some((part) => part.includes('\n')) && indent.length + short.length <= LINE_MAX;
  if (flat && (node.items || parts.length <= 3) && indent !== '') return short;
  return `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}`;
}

/** The edit that gives the value at `path` another text, or with `undefined` takes it away. Objects on the way are made;
 *  null when the path leads through something that is no object. */
export function change(text: string, path: string[], value: string | undefined): Edit | null {
  const root = tryParse(text);
  if (!root) return null;
  let here = root;
  for (const [depth, step] of path.entries()) {
    if (here.type !== 'object') return null;
    const place = here.members!.findLastIndex((member) => member.key === step);
    if (place < 0) return value === undefined ? null : insertion(text, here, path.slice(depth), value);
    const member = here.members![place]!;
    if (depth === path.length - 1) {
      return value === undefined ? removal(here, place) : { from: member.node.from, to: member.node.to, insert: value };
    }
    here = member.node;
  }
  return null;
}

function insertion(text: string, object: JsonNode, path: string[], value: string): Edit {
  const nested = path.slice(1).reduceRight((inside, name) => `{${JSON.stringify(name)}: ${inside}}`, value);
  const member = `${JSON.stringify(path[0])}: ${nested}`;
  const last = object.members!.at(-1);
  if (!last) return { from: object.from, to: object.to, insert: `{${member}}` };
  const lineStart = text.lastIndexOf('\n', last.from) + 1;
  const ownLine = /^\s*$/.test(text.slice(lineStart, last.from)) && lineStart > object.from;
  const separator = ownLine ? `,\n${text.slice(lineStart, last.from)}` : ', ';
  return { from: last.node.to, to: last.node.to, insert: separator + member };
}

/** The edit that adds an item to the list at `path`, which is made when it is not there. Null when there is something else. */
export function append(text: string, path: string[], item: string): Edit | null {
  const list = find(tryParse(text), path);
  if (!list) return change(text, path, `[${item}]`);
  if (!list.items) return null;
  const last = list.items.at(-1);
  if (!last) return { from: list.from, to: list.to, insert: `[${item}]` };
  const lineStart = text.lastIndexOf('\n', last.from) + 1;
  const before = text.slice(lineStart, last.from);
  const ownLine = /^\s*$/.test(before) && lineStart > list.from;
  const node = tryParse(item);
  const shown = ownLine && node ? write(item, node, before) : item;
  return { from: last.to, to: last.to, insert: (ownLine ? `,\n${before}` : ', ') + shown };
}

function removal(object: JsonNode, place: number): Edit {
  const members = object.members!;
  const before = members[place - 1];
  const after = members[place + 1];
  const from = before ? before.node.to : after ? members[place]!.from : object.from + 1;
  const to = before ? members[place]!.node.to : after ? after.from : object.to - 1;
  return { from, to, insert: '' };
}
