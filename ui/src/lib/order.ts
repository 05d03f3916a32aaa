// Tables keep their order while they are brought up to date: what is there stays where it is, what is new comes last.

export function keepOrder<T extends { id: string }>(before: string[], items: T[]): T[] {
  const place = new Map(before.map((id, index) => [id, index]));
  const known = items.filter((item) => place.has(item.id)).sort((a, b) => place.get(a.id)! - place.get(b.id)!);
  return [...known, ...items.filter((item) => !place.has(item.id))];
}

const NAMES = new Intl.Collator('en', { numeric: true });

/** Nodes, which come in the order of their ids: n2 before n10. */
export const byName = <T extends { name: string }>(items: T[] | undefined): T[] => (items ?? []).toSorted((a, b) => NAMES.compare(a.name, b.name));

/** Endpoints, likewise. */
export const byPath = <T extends { path: string }>(items: T[] | undefined): T[] => (items ?? []).toSorted((a, b) => NAMES.compare(a.path, b.path));

/** By a text from A on, by a figure from the largest on; `reverse` the other way round. Equals stay as they are. */
export function sortBy<T>(items: T[], of: (item: T) => string | number, reverse: boolean): T[] {
  const sign = reverse ? -1 : 1;
  return items.toSorted((one, other) => {
    const [a, b] = [of(one), of(other)];
    return sign * (typeof a === 'number' && typeof b === 'number' ? b - a : String(a).localeCompare(String(b)));
  });
}
