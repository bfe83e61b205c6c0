// One file from the network to disk, through the proxies that the environment names (Node's own fetch ignores them).

import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EnvHttpProxyAgent, fetch } from 'undici';

/** How a file is received. */
export interface ReceiveOptions {
  /** Digest to compute on the way. */
  readonly hash: 'md5' | 'sha256';
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { receivedBytes: number; totalBytes: number | null }) => void) | undefined;
}

/**
 * Streams `url` to `file` and returns the digest in hexadecimal. A file cut short is an error.
 * @throws An Error whose message says what went wrong, without the address; the signal's reason when aborted.
 */
export async function receive(url: string | URL, file: string, options: ReceiveOptions): Promise<string> {
  const { hash, signal, onProgress } = options;
  const dispatcher = new EnvHttpProxyAgent();
  try {
    const response = await fetch(url, { dispatcher, ...(signal && { signal }) });
    if (!response.ok || !response.body) throw new Error(`found HTTP status ${response.status}, expected 200`);
    const digest = createHash(hash);
    const totalBytes = Number(response.headers.get('content-length')) || null;
    let receivedBytes = 0;
    const measure = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        digest.update(chunk);
        receivedBytes += chunk.length;
        onProgress?.({ receivedBytes, totalBytes });
        done(null, chunk);
      },
    });
    await pipeline(Readable.fromWeb(response.body), measure, createWriteStream(file));
    return digest.digest('hex');
  } catch (error) {
    signal?.throwIfAborted();
    throw explained(error);
  } finally {
    // destroy, not close: a body that was not read would keep the connection, and this call, waiting.
    await dispatcher.destroy();
  }
}

/** fetch says "fetch failed" and puts the reason into the cause. */
function explained(error: unknown): Error {
  const { cause } = error as { cause?: unknown };
  if (cause instanceof Error && cause.message !== '') return new Error(cause.message, { cause: error });
  return error instanceof Error ? error : new Error(String(error));
}
