// The one cross-hair of all charts: the sample that is pointed at.
class Cross {
  place = $state<number | null>(null);
}
export const cross = new Cross();
