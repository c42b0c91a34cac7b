// An answer that carries a file, or a part of it, or says why not.
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { deflateSync, gzipSync } from 'node:zlib'
import { sendStatus } from './bare-answer.ts'
import { isGone, sendBody } from './body.ts'
import { judge, type Verdict } from './conditions.ts'
import type { Exchange } from './exchange.ts'
import type { Fault } from './fault.ts'
import { askedRange, contentRange, sendMultipart } from './range.ts'
import type { Part, ServedFile } from './served-file.ts'
import { type Validators, validatorsOf } from './validators.ts'

export async function sendFile(exchange: Exchange, served: ServedFile): Promise<void> {
  const { at, fault, request, response, url } = exchange
  if (served.close) response.setHeader('connection', 'close')
  if (served.firstByteAfterMs) await sleep(served.firstByteAfterMs)
  if (isGone(response)) return
  const refusal = served.signed?.refusal(url)
  if (refusal !== undefined) {
    sendStatus(response, 403, { 'x-refusal': refusal })
    return
  }
  if (request.method === 'HEAD' && served.head === 'refused') {
    sendStatus(response, 405, { allow: 'GET' })
    return
  }
  const validators = validatorsOf(served, ++at.answers)
  writeValidators(response, validators)
  const verdict = verdictOn(exchange, served, validators)
  if (verdict.is !== 'send') {
    sendStatus(response, verdict.is)
    return
  }
  response.setHeader('content-type', 'application/octet-stream')
  if (fault?.kind === 'compressed') sendCompressed(response, served.file, fault.encoding)
  else await sendPart(exchange, served.file, verdict.range)
}

function writeValidators(response: ServerResponse, { etag, lastModified, date }: Validators): void {
  if (etag !== undefined) response.setHeader('etag', etag)
  if (lastModified !== undefined) response.setHeader('last-modified', lastModified.toUTCString())
  if (date === undefined) response.sendDate = false
  else response.setHeader('date', date.toUTCString())
}

function verdictOn({ fault, request }: Exchange, served: ServedFile, now: Validators): Verdict | { is: number } {
  const { 'if-range': ifRange, ...others } = request.headers
  const { ifRange: habit = 'honoured' } = served
  if (ifRange !== undefined && typeof habit === 'object') return { is: habit.refusedWith }
  const counted = served.conditions === 'ignored' ? {} : others
  const isAsked = ifRange !== undefined && fault?.kind !== 'ignore-if-range'
  const verdict = judge(request.method ?? 'GET', isAsked ? { ...counted, 'if-range': String(ifRange) } : counted, now)
  const isWhole = verdict.is === 'send' && isAsked && habit === 'whole'
  return isWhole ? { is: 'send', range: false } : verdict
}

function sendCompressed(response: ServerResponse, file: string, encoding: 'gzip' | 'deflate'): void {
  const compress = encoding === 'gzip' ? gzipSync : deflateSync
  const body = compress(readFileSync(file), { level: 1 })
  response.writeHead(200, { 'content-encoding': encoding, 'content-length': body.length }).end(body)
}

async function sendPart(exchange: Exchange, file: string, rangeCounts: boolean): Promise<void> {
  const { fault, request, response } = exchange
  if (fault?.kind === 'gzip') response.setHeader('content-encoding', 'gzip')
  if (fault?.kind === 'prelude') request.socket.write(fault.text)
  const { size } = statSync(file)
  const asked = rangeCounts && fault?.kind !== 'ignore-range' && fault?.kind !== 'raw' ? askedRange(request) : undefined
  if (asked && asked.start >= size) {
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end()
    return
  }
  const part = asked
    ? bent({ start: asked.start, end: Math.min(size, asked.end ?? size), size, isRange: true }, fault)
    : { start: 0, end: size, size, isRange: false }
  if (part.isRange && fault?.kind === 'multipart') {
    const bytes = readFileSync(file).subarray(part.start, part.end)
    sendMultipart(response, bytes, contentRange(part.start, part.end, size))
    return
  }
  if (fault?.kind === 'raw') await sendRaw(exchange, fault, file, part)
  else {
    writeHead(response, fault, part)
    if (request.method === 'HEAD') response.end()
    else {
      response.flushHeaders()
      await sendBody({ ...exchange, ...part, file: bodyOf(fault, file, part) }, response)
    }
  }
}

/** The range that the answer has, for better or worse. */
function bent(part: Part, fault: Fault | undefined): Part {
  const { start, end } = part
  if (fault?.kind === 'wrong-range') return { ...part, start: Math.floor(start / 2) }
  if (fault?.kind === 'short-range') return { ...part, end: Math.min(end, start + fault.bytes) }
  return fault?.kind === 'other-range' ? { ...part, ...fault.of(part) } : part
}

function writeHead(response: ServerResponse, fault: Fault | undefined, part: Part): void {
  const { start, end, size, isRange } = part
  if (!isRange && hasNoLength(fault)) {
    if (!fault.chunked) response.useChunkedEncodingByDefault = false
    response.writeHead(200, fault.chunked ? { 'transfer-encoding': 'chunked' } : { connection: 'close' })
    return
  }
  const length = fault?.kind === 'promise' && !isRange ? fault.bytes : end - start
  response.setHeader('content-length', String(length))
  if (!isRange) response.setHeader('accept-ranges', 'bytes')
  else if (fault?.kind !== 'untold-range') response.setHeader('content-range', contentRange(start, end, size))
  const status = isRange ? 206 : 200
  if (fault?.kind !== 'headers') {
    response.writeHead(status)
    return
  }
  for (const [name, value] of Object.entries(fault.headers(part))) {
    if (value === null) response.removeHeader(name)
    else response.setHeader(name, value)
  }
  response.writeHead(fault.status ?? status)
}

function hasNoLength(fault: Fault | undefined): fault is Fault & { readonly chunked: boolean } {
  return fault?.kind === 'no-length' || fault?.kind === 'endless-body'
}

function bodyOf(fault: Fault | undefined, file: string, { start }: Part): string {
  return fault?.kind === 'other-bytes' && start > 0 ? fault.file : file
}

/** On the bare connection, since no good server would write what a `raw` fault writes. */
async function sendRaw(
  exchange: Exchange,
  fault: Fault & { readonly kind: 'raw' },
  file: string,
  part: Part,
): Promise<void> {
  const { socket } = exchange.request
  socket.write(fault.head(part))
  if (fault.rest === 'body') await sendBody({ ...exchange, ...part, file }, socket)
  else if (fault.rest === 'stall') await once(socket, 'close')
  socket.end()
}
