import { expect, it } from 'vitest';
import { clipTo, draw, expressionText } from './picture';

it('draws each route once, the default one last, and says where nothing goes', () => {
  const picture = draw({
    path: '/a',
    routes: [
      { type: 'default', name: 'rest', backends: [{ type: 'echo' }] },
      { type: 'custom', name: 'one', key: 'x', backends: [{ type: 'http', destination: 'http://a/' }, { type: 'kafka', topic: 't', required: false }] },
      { type: 'disconnect', name: 'bye' },
    ],
  });
  const routes = picture.boxes.filter((box) => box.kind === 'route');
  expect(routes.map((box) => [box.title, box.path])).toEqual([['one', 'routes[1]'], ['rest', 'routes[0]'], ['bye', 'routes[2]']]);
  expect(picture.boxes.filter((box) => box.kind === 'nowhere')).toHaveLength(1);
  expect(picture.lines.filter((line) => line.dashed).map((line) => line.id)).toEqual(['routes[1].backends[1]', 'routes[2]-none']);
});

it('names what the figures of each box and line are, and shows what no route takes', () => {
  const picture = draw({ path: '/a', routes: [{ type: 'connect', name: 'hello', backends: [{ type: 'http', destination: 'http://a/' }] }, { type: 'custom', name: 'one', key: 'x', backends: [{ type: 'echo' }] }] });
  expect(picture.lines.map((line) => [line.figures?.route, line.figures?.backend])).toEqual([['hello', 0], ['hello', undefined], ['one', undefined], ['one', undefined], ['', undefined]]);
  expect(picture.boxes.filter((box) => box.kind === 'nowhere').map((box) => box.text)).toEqual(['what is left is answered no_route']);
});

it('shows what is refused beside a default route only when there is any', () => {
  const document = { path: '/a', routes: [{ type: 'default' as const, name: 'rest', backends: [{ type: 'kafka' as const, topic: 't' }] }] };
  expect(draw(document).boxes.some((box) => box.title === 'Refused')).toBe(false);
  expect(draw(document, true).boxes.find((box) => box.title === 'Refused')?.figures?.route).toBe('');
});

it('an endpoint without routes shows that events go nowhere', () => {
  expect(draw({ path: '/a' }).boxes.map((box) => box.title)).toEqual(['No route', 'Event']);
});

it('writes expressions in a line', () => {
  expect(expressionText({ or: [{ and: [{ exists: { path: '$.a' } }, { gt: { path: '$.n', value: 1 } }] }, { not: { equal: { path: '$.u', value: null, source: 'connection' } } }] })).toBe(
    '($.a exists and $.n > 1) or not (connection $.u = null)',
  );
});

it('clips texts by their width, not by how many characters they have', () => {
  const measure = (text: string) => [...text].reduce((sum, each) => sum + (each === 'W' ? 12 : 5), 0);
  expect(clipTo('iiiiiiii', 40, measure)).toBe('iiiiiiii');
  expect(clipTo('WWWWWWWW', 40, measure)).toBe('WW…');
  expect(clipTo('iiiiiiiii', 40, measure)).toBe('iiiiiii…');
});
