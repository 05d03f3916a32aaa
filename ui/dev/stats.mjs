// Made-up figures in the form of GET /api/v1/stats, to build and test the overview without traffic. Each sample depends
// on its time alone, so what is asked for twice is the same twice. Node n3 has gaps, and its errors peak now and then.
const STEPS = { '5m': [1, 300], '1h': [10, 3600], '24h': [300, 86_400] };

export function stats(query, now = Math.floor(Date.now() / 1000)) {
  const range = STEPS[query.get('range')] ? query.get('range') : '5m';
  const [stepSeconds, seconds] = STEPS[range];
  const last = Math.floor(now / stepSeconds);
  const since = Math.floor(Number(query.get('since') ?? 0) / stepSeconds);
  const first = Math.max(last - seconds / stepSeconds + 1, since);
  const nodes = ['n1', 'n2', 'n3'].map((name, which) => {
    const places = Array.from({ length: Math.max(0, last - first + 1) }, (_, place) => first + place);
    const gap = (place) => which === 2 && Math.floor((place * stepSeconds) / 40) % 7 === 3;
    const series = (of) => places.map((place) => (gap(place) ? null : of(place, place * stepSeconds)));
    const counts = (base, swing, period) => series((place, second) => Math.max(0, Math.round(stepSeconds * (base + swing * Math.sin(second / period + which) + noise(place + which * 977) * base * 0.15))));
    return {
      nodeId: `0000000000000${which + 1}aa`.slice(-16),
      name,
      reachable: true,
      from: first * stepSeconds,
      connectionsMax: 5000,
      samples: {
        connections: series((place, second) => Math.round(1200 + which * 300 + 200 * Math.sin(second / 97 + which) + noise(place) * 8)),
        opened: counts(12, 6, 31),
        closed: counts(12, 6, 37),
        eventsIn: counts(420, 150, 53),
        eventsOut: counts(310, 90, 61),
        throttled: counts(1, 1, 41),
        errors: { no_route: counts(0.6, 0.6, 43), delivery_failed: series((place, second) => (which === 2 && Math.floor(second / 60) % 4 === 0 ? 40 * stepSeconds : Math.round(stepSeconds * noise(place))) ) },
        backendP50Millis: series((place, second) => Number((4 + Math.sin(second / 29 + which) + noise(place)).toFixed(1))),
        backendP99Millis: series((place, second) => Math.round(38 + 14 * Math.sin(second / 71 + which) + 10 * noise(place))),
        memoryBytes: series((place, second) => Math.round(180e6 + 2e7 * Math.sin(second / 400 + which))),
      },
    };
  });
  return { range, stepSeconds, nodes };
}

/** 0 to 1, the same for the same number. */
function noise(seed) {
  const value = Math.sin(seed * 12.9898) * 43758.5453;
  return value - Math.floor(value);
}
