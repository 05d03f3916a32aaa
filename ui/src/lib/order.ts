// Tables keep their order while they are brought up to date: what is there stays where it is, what is new comes last.

export function keepOrder<T extends { id: string }>(before: string[], items: T[]): T[] {
  const place = new Map(before.map((id, index) => [id, index]));
  const known = items.filter((item) => place.has(item.id)).sort((a, b) => place.get(a.id)! - place.get(b.id)!);
  return [...known, ...items.filter((item) => !place.has(item.id))];
}
