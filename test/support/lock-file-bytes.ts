// A second hand at the format of a lock file (native/owner_record.h), to forge what a mutex may meet in one.

/** The content of a lock file with a whole, valid record around `json`. */
export function lockFileBytes(state: 'held' | 'free', json: string): Buffer {
  const body = Buffer.from(json)
  const length = body.length.toString(16).padStart(4, '0')
  const sum = checksum(body).toString(16).padStart(16, '0')
  return Buffer.concat([Buffer.from(`-${state === 'held' ? 'H' : 'F'}1 ${length} ${sum} `), body, Buffer.from('\n')])
}

function checksum(body: Buffer): bigint {
  const limit = (value: bigint) => BigInt.asUintN(64, value)
  let sum = 0x9e3779b97f4a7c15n ^ BigInt(body.length)
  for (let at = 0; at < body.length; at += 8) {
    const word = Buffer.alloc(8)
    body.copy(word, 0, at, at + 8)
    sum = limit((sum ^ word.readBigUInt64LE()) * 0xff51afd7ed558ccdn)
    sum ^= sum >> 32n
  }
  return sum
}
