import { describe, expect, it } from 'vitest';
import { OwnFigures, samples } from './metrics';

const letters = (kept: number, more = '') => `# TYPE wsgateway_dead_letters counter\nwsgateway_dead_letters_total{endpoint="ep-1",route="a",outcome="kept"} ${kept}\n${more}# EOF\n`;

describe('figures of a node', () => {
  it('are read with their labels, however these are written', () => {
    const text = 'wsgateway_disk_full 0\nwsgateway_other{a="b"} 1\nwsgateway_backend_circuit{endpoint="ep-1",backend="custom/a \\"b\\", {c}/0"} 2\n';
    expect(samples(text)).toEqual([
      { name: 'disk_full', labels: {}, value: 0 },
      { name: 'backend_circuit', labels: { endpoint: 'ep-1', backend: 'custom/a "b", {c}/0' }, value: 2 },
    ]);
  });
  it('tell of a full disk and of breakers that are open, not of those that try again', () => {
    const own = new OwnFigures().read('wsgateway_disk_full 1\nwsgateway_disk_free_bytes 1024\nwsgateway_backend_circuit{endpoint="e",backend="b"} 2\nwsgateway_backend_circuit{endpoint="e",backend="c"} 1\n', 0);
    expect(own).toEqual({ diskFull: true, diskFreeBytes: 1024, circuitsOpen: [{ endpoint: 'e', backend: 'b' }], letters: [] });
  });
  it('tell of letters that came while it was looked, for five minutes', () => {
    const figures = new OwnFigures();
    const fresh = (text: string, seconds: number) => figures.read(text, seconds * 1000).letters.map((each) => [each.outcome, each.fresh]);
    expect(fresh(letters(7), 0)).toEqual([]);
    expect(fresh(letters(9, 'wsgateway_dead_letters_total{endpoint="ep-1",route="a",outcome="timeout"} 1\n'), 10)).toEqual([['kept', 2], ['timeout', 1]]);
    expect(fresh(letters(9), 20)).toEqual([['kept', 2]]);
    for (let at = 30; at < 320; at += 10) fresh(letters(9), at);
    expect(fresh(letters(9), 320)).toEqual([]);
  });
  it('begin anew with a node that was started again', () => {
    const figures = new OwnFigures();
    figures.read(letters(7), 0);
    figures.read(letters(1), 1000);
    expect(figures.read(letters(3), 2000).letters[0]!.fresh).toBe(2);
  });
});
