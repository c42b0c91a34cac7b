// A certificate that nobody has signed but itself, for a server on this machine.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Certificate {
  readonly key: string
  readonly cert: string
}

/** `name`: whose it is by its own word, as openssl writes it: `IP:127.0.0.1`. */
export function selfSigned(name: string): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'os-mutex-certificate-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  try {
    const of = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-subj', '/CN=os-mutex-test']
    const out = ['-addext', `subjectAltName=${name}`, '-days', '2', '-nodes', '-keyout', key, '-out', cert]
    execFileSync('openssl', ['req', '-x509', ...of, ...out], { stdio: ['ignore', 'ignore', 'pipe'] })
    return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
  } catch (cause) {
    throw new Error('The faults of TLS need the program "openssl". On Debian or Ubuntu: apt-get install openssl', {
      cause,
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
}
