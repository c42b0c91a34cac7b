// Who may do what with a mutex, by the text of its security descriptor: the very function of the addon, compiled by
// itself.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as security from '../support/win32/security.ts'

const sources = fileURLToPath(new URL('../../../native/win32/', import.meta.url))
const compiler = process.env.CXX ?? 'g++'

function whyNot(): string | undefined {
  if (!existsSync(join(sources, 'descriptor.cc'))) return 'the sources are not here'
  return spawnSync(compiler, ['--version']).status === 0 ? undefined : `there is no ${compiler}`
}

const reason = whyNot()
const withCompiler = reason === undefined ? {} : { skip: reason }

const program = `
#include "descriptor.h"
#include <cstdio>
int main(int, char** arguments) { std::puts(os_mutex::mutexDescriptor(arguments[1]).c_str()); }
`

/** The descriptor of a mutex that a user makes, elevated or not: both tokens have the same user. */
function descriptorOf(userSid: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'os-mutex-descriptor-'))
  try {
    const [main, output] = [join(folder, 'main.cc'), join(folder, 'main.exe')]
    writeFileSync(main, program)
    execFileSync(compiler, ['-std=c++17', '-I', sources, main, join(sources, 'descriptor.cc'), '-o', output])
    return execFileSync(output, [userSid], { encoding: 'utf8' }).trim()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const maker = 'S-1-5-21-1-2-3-1001'
const other = 'S-1-5-21-1-2-3-1002'
const takes = security.SYNCHRONIZE | security.MUTEX_MODIFY_STATE

/** By the groups that are enabled in each token: that of a plain process has the administrators for denials only. */
const tokens: Record<string, { readonly groups: readonly string[]; readonly rights: number }> = {
  'a plain process of the maker': { groups: [maker, 'WD'], rights: security.MUTEX_ALL_ACCESS },
  'an elevated process of the maker': { groups: [maker, 'BA', 'WD'], rights: security.MUTEX_ALL_ACCESS },
  'a service of the system': { groups: ['SY', 'BA', 'WD'], rights: security.MUTEX_ALL_ACCESS },
  'an administrator who is another user': { groups: [other, 'BA', 'WD'], rights: security.MUTEX_ALL_ACCESS },
  'a plain process of another user': { groups: [other, 'WD'], rights: takes },
  // It must be granted to the app beside its user.
  'a sandboxed app': { groups: ['AC'], rights: takes },
}

for (const [who, { groups, rights }] of Object.entries(tokens)) {
  test(
    `${who} may ${rights === takes ? 'only wait and release' : 'open the mutex by a plain CreateMutex'}`,
    withCompiler,
    () => {
      const sddl = descriptorOf(maker)
      const granted = groups.reduce((sum, group) => sum | security.allowed(sddl, group), 0)
      assert.equal(granted, rights, sddl)
    },
  )
}

test('a descriptor whose user is not known still lets all users take the mutex', withCompiler, () => {
  const sddl = descriptorOf('')
  assert.match(sddl, /^D:(\(A;;0x[0-9A-F]{8};;;[A-Z]{2}\))+$/)
  assert.equal(security.allowed(sddl, 'WD'), takes)
})
