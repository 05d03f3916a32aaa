import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { placeAt, proposals, type Schema } from './schema';

const api = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8').replaceAll('#/components/schemas/', '#/$defs/')) as {
  components: { schemas: Record<string, Schema> };
};
const schema: Schema = { ...api.components.schemas.EndpointDocument, $defs: api.components.schemas };

/** What is proposed where the bar stands. */
function at(text: string): string[] {
  const place = placeAt(text.replace('|', ''), text.indexOf('|'));
  return place ? proposals(schema, place).map((proposal) => proposal.label) : [];
}

describe('completion', () => {
  it('proposes names that are not there yet', () => {
    expect(at('{|')).toContain('path');
    expect(at('{"path": "/a", "ro|"')).toContain('routes');
    expect(at('{"path": "/a", |')).not.toContain('path');
  });
  it('follows references, lists and nesting', () => {
    expect(at('{"settings": {"|')).toContain('maxInFlight');
    expect(at('{"settings": {"outbox": {|')).toContain('whenFull');
    expect(at('{"routes": [{"type": "custom"}, {"name": "a", "backends": [{|')).toContain('destination');
  });
  it('proposes values: of an enumeration, and truth values', () => {
    expect(at('{"routes": [{"type": |')).toEqual(['connect', 'disconnect', 'error', 'default', 'custom']);
    expect(at('{"settings": {"onVersionChange": "|"}}')).toEqual(['keep', 'close']);
    expect(at('{"routes": [{"continue": t|')).toEqual(['true', 'false']);
  });
  it('is silent where nothing can be written', () => {
    expect(at('{"path"| ')).not.toContain('routes');
    expect(at('{"path": "/a" |')).toEqual([]);
    expect(at('|')).toEqual([]);
  });
});
