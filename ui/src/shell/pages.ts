// The pages, their places in the address bar, and the letter that follows `g`.

export interface Entry {
  id: string;
  label: string;
  href: string;
  letter: string;
  /** A path of an icon on a 16 × 16 grid, drawn as lines. */
  icon: string;
  role?: 'admin';
}

export const ENTRIES: Entry[] = [
  { id: '', label: 'Overview', href: '#/', letter: 'o', icon: 'M2 13V9M6 13V4M10 13V7M14 13V2' },
  { id: 'endpoints', label: 'Endpoints', href: '#/endpoints', letter: 'e', icon: 'M2 8h4M6 8l4-4h4M6 8l4 4h4' },
  { id: 'connections', label: 'Connections', href: '#/connections', letter: 'c', icon: 'M3 5h10M3 11h10M10 2l3 3-3 3M6 8l-3 3 3 3' },
  { id: 'live', label: 'Live', href: '#/live', letter: 'l', icon: 'M1.500 8h3l2-5 3 10 2-5h3' },
  { id: 'console', label: 'Console', href: '#/console', letter: 'w', icon: 'M2 3h12v10H2zM4.500 6l2.500 2-2.500 2M8.500 10.500h3' },
  { id: 'cluster', label: 'Cluster', href: '#/cluster', letter: 'n', icon: 'M8 2v4M8 6 4 11M8 6l4 5M6.500 2h3v3h-3zM2.500 10.500h3v3h-3zM10.500 10.500h3v3h-3z' },
  { id: 'access', label: 'Access', href: '#/access', letter: 'a', icon: 'M5 7a3 3 0 1 1 3 3L7 11H5.500v1.500H4V14H2v-2l3-3z', role: 'admin' },
];
