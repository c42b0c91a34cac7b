// Presigned URLs: one object, as many URLs as one likes, each good for some time. The query is that of a real store.
import { createHmac, timingSafeEqual } from 'node:crypto'

export type SignatureStyle = 'amz' | 'goog' | 'cloudfront' | 'azure'

/** The names of the query: the signature's, the end's (in ms since 1970 here), and one that makes each URL another one. */
const names: Record<SignatureStyle, { readonly signature: string; readonly until: string; readonly nonce: string }> = {
  amz: { signature: 'X-Amz-Signature', until: 'X-Amz-Expires', nonce: 'X-Amz-Date' },
  goog: { signature: 'X-Goog-Signature', until: 'X-Goog-Expires', nonce: 'X-Goog-Date' },
  cloudfront: { signature: 'Signature', until: 'Expires', nonce: 'Key-Pair-Id' },
  azure: { signature: 'sig', until: 'se', nonce: 'st' },
}

export class Signer {
  readonly #names: (typeof names)[SignatureStyle]
  #signed = 0
  #oldest = 0

  constructor(style: SignatureStyle = 'amz') {
    this.#names = names[style]
  }

  /** Another URL each time. */
  sign(url: string, goodForMs = 3_600_000): string {
    const { signature, until, nonce } = this.#names
    const signed = new URL(url)
    signed.searchParams.set(nonce, String(++this.#signed))
    signed.searchParams.set(until, String(Date.now() + goodForMs))
    signed.searchParams.set(signature, this.#signature(signed))
    return signed.href
  }

  /** From now on no URL is good that was signed so far. */
  expireAll(): void {
    this.#oldest = this.#signed
  }

  /** Why a URL is refused, if it is. */
  refusal(url: URL): 'no signature' | 'wrong signature' | 'expired' | undefined {
    const { signature, until, nonce } = this.#names
    const given = url.searchParams.get(signature)
    if (given === null) return 'no signature'
    const [a, b] = [Buffer.from(given), Buffer.from(this.#signature(url))]
    if (a.length !== b.length || !timingSafeEqual(a, b)) return 'wrong signature'
    const isOver = Number(url.searchParams.get(until)) <= Date.now()
    return isOver || Number(url.searchParams.get(nonce)) <= this.#oldest ? 'expired' : undefined
  }

  #signature(url: URL): string {
    const { until, nonce } = this.#names
    const parts = [url.pathname, url.searchParams.get(until), url.searchParams.get(nonce)]
    return createHmac('sha256', 'secret of the store').update(parts.join('\n')).digest('hex')
  }
}
