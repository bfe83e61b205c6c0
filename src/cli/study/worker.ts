// A process of a study: makes one net after the other as it is told, on one core. Its parent stops it; Ctrl-C reaches it as
// well, since both belong to one terminal, and is left to the parent.
import { fromNative } from '../../errors.js';
import { type ErrorCode, load } from '../../index.js';
import { describeFailure } from '../failure.js';
import { makeNet, openStudyImages, type StudyImages } from './net.js';
import type { PlannedNet, StudyOptions } from './plan.js';
import { failedRecord, type NetRecord, writeRecord } from './record.js';

/** What the parent says. */
export type Order =
  | { readonly type: 'begin'; readonly options: StudyOptions }
  | { readonly type: 'net'; readonly net: PlannedNet };

/** What a worker answers: ready for the next net, a net that is done, or an error that ends the study. */
export type Answer =
  | { readonly type: 'ready' }
  | { readonly type: 'done'; readonly record: NetRecord }
  | { readonly type: 'broken'; readonly code: ErrorCode; readonly message: string };

const abort = new AbortController();
let study: { options: StudyOptions; images: StudyImages } | undefined;

const answer = (message: Answer) => process.send?.(message);

async function obey(order: Order): Promise<Answer> {
  if (order.type === 'begin') {
    await load({ threads: 1 });
    study = { options: order.options, images: await openStudyImages(order.options) };
    return { type: 'ready' };
  }
  if (study === undefined) throw new Error('a net before the study has begun');
  const { point, seed, folder } = order.net;
  try {
    return { type: 'done', record: await makeNet(order.net, study.options, study.images, abort.signal) };
  } catch (error) {
    // Divergence is a finding about this net; anything else is wrong with the study.
    if ((error as { code?: unknown }).code !== 'ERR_FLATMIN_NON_FINITE') throw error;
    const record = failedRecord(point, seed, describeFailure(error, false));
    await writeRecord(folder, record, study.options);
    return { type: 'done', record };
  }
}

process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => {
  abort.abort();
  process.exit();
});
process.on('message', (order: Order) => {
  obey(order).then(answer, (error: unknown) => {
    const { code, message } = fromNative(error);
    return answer({ type: 'broken', code, message });
  });
});
