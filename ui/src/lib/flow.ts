// What the figures say about each part of the picture of routes. Pure: rates in, words out.
import type { EndpointTraffic } from '../api/traffic';
import { millis, percent, rate } from './format';
import type { Figures } from './picture';

export interface Flow {
  /** Nothing passes. */
  silent: boolean;
  rate: string;
  /** The share that failed; '' when none did. */
  failed: string;
  /** Of a backend: how long it takes. */
  took: string;
}

const SILENT: Flow = { silent: true, rate: '0 /s', failed: '', took: '' };

/** Of a route, or of one of its backends; null without figures. */
export function flowOf(traffic: EndpointTraffic | null, figures: Figures | undefined): Flow | null {
  if (!traffic || !figures) return null;
  const { route, type, backend } = figures;
  // Names are unique among the routes of one type; of the others there is one. Nodes of before say no type.
  const ofType = traffic.routes.filter((each) => each.type === type || each.type === '');
  const of = ofType.find((each) => each.route === route) ?? ofType.find((each) => type !== null && type !== 'custom' && (each.type === type || each.route === type));
  if (!of) return SILENT;
  if (backend === undefined) return flow(of.eventsPerSecond, Object.values(of.errors).reduce((sum, each) => sum + each, 0), '');
  const found = of.backends.find((each) => each.index === backend);
  if (!found) return SILENT;
  const took = found.p50Millis === null || found.p50Millis === undefined ? '' : `p50 ${millis(found.p50Millis)}, p99 ${millis(found.p99Millis)}`;
  return flow(found.requestsPerSecond, found.failedPerSecond, took);
}

function flow(perSecond: number, failedPerSecond: number, took: string): Flow {
  if (perSecond === 0) return { ...SILENT, took };
  return { silent: false, rate: rate(perSecond), failed: failedPerSecond > 0 ? `${percent(Math.min(1, failedPerSecond / perSecond))} failed` : '', took };
}
