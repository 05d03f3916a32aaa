import { expect, it } from 'vitest';
import { takenPath } from './taken';

it('says whose a path is already', () => {
  expect(takenPath({ code: 'path_taken', message: 'the key /shop/{} is held by document ep-88d37f9f5813ea3a' })).toEqual({ path: '/shop/{}', id: 'ep-88d37f9f5813ea3a' });
  expect(takenPath({ code: 'path_taken', message: 'another sentence' })).toBeNull();
});
