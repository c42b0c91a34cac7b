# On Windows itself, as an elevated administrator, in the root of a built checkout: whom the kernel lets open a mutex that an
# elevated process has made. Wine lets everybody, so no test there shows it.
$ErrorActionPreference = 'Stop'
$name = "Global\os-mutex-users-$PID"
$everything = '1F0001'  # MUTEX_ALL_ACCESS: what CreateMutex asks for
$take = '100001'        # SYNCHRONIZE | MUTEX_MODIFY_STATE
$user = 'os-mutex-other'
# In the root of the disk all users may read, run and write.
$folder = "C:\os-mutex-users-$PID"

function Wait-For($what, $condition) {
  for ($turn = 0; $turn -lt 300; $turn++) {
    if (& $condition) { return }
    Start-Sleep -Milliseconds 100
  }
  throw "Waited in vain until $what"
}

function Assert-Said($who, $text, $expected) {
  if ($text -notlike "*$expected*") { throw "$who should say `"$expected`" and said: $text" }
  Write-Output "ok: $who, $expected"
}

# Runs a command line by `start` and gives what it printed, with the groups and the integrity level of its process before it.
function Get-Answer($label, $rights, $start) {
  $answer = "$folder\$label.txt"
  $command = "whoami /groups > $answer 2>&1 & $folder\foreign.exe open $name $rights >> $answer 2>&1 & echo that-is-all >> $answer"
  & $start $command
  Wait-For "$label has answered" { (Test-Path $answer) -and ((Get-Content -Raw $answer) -like '*that-is-all*') }
  Get-Content -Raw $answer
}

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
if (-not ([Security.Principal.WindowsPrincipal]$identity).IsInRole('Administrators')) { throw 'This process must be elevated' }
New-Item -ItemType Directory $folder | Out-Null
Copy-Item out\test\support\win32\foreign.exe $folder
$maker = $null
try {
  $package = [Uri]::new((Join-Path $PWD 'dist\index.js')).AbsoluteUri
  Set-Content "$folder\maker.mjs" @"
import { writeFileSync } from 'node:fs'
import { NamedMutex } from '$package'
globalThis.lock = new NamedMutex(process.argv[2]).acquireSync({ timeoutMs: 0 })
writeFileSync(process.argv[3], 'held')
setInterval(() => {}, 1000)
"@
  $maker = Start-Process node -PassThru -NoNewWindow -ArgumentList "$folder\maker.mjs", $name, "$folder\held"
  Wait-For 'the maker holds the mutex' { Test-Path "$folder\held" }

  $basicUser = { param($command) runas /trustlevel:0x20000 "cmd /c $command" | Out-Null }
  $plain = Get-Answer 'plain' $everything $basicUser
  Assert-Said 'a plain process of the same user' $plain 'Medium Mandatory Level'
  Assert-Said 'a plain process of the same user' $plain 'opened'

  $password = ConvertTo-SecureString "$(New-Guid)aA1!" -AsPlainText -Force
  New-LocalUser $user -Password $password | Out-Null
  Add-LocalGroupMember -SID S-1-5-32-545 -Member $user  # Users: they may log on
  $credential = [pscredential]::new($user, $password)
  $otherUser = { param($command) Start-Process cmd -Credential $credential -WorkingDirectory C:\ -ArgumentList "/c $command" }
  Assert-Said 'another user who asks for everything' (Get-Answer 'other-all' $everything $otherUser) 'refused 5'
  Assert-Said 'another user who asks to wait and release' (Get-Answer 'other-take' $take $otherUser) 'opened'

  # A program whose file has this label runs at this level. If it is refused, the descriptor needs S:(ML;;NW;;;LW).
  foreach ($program in "$env:SystemRoot\System32\whoami.exe", "$folder\foreign.exe") {
    Copy-Item $program "$folder\low-$(Split-Path -Leaf $program)"
    icacls "$folder\low-$(Split-Path -Leaf $program)" /setintegritylevel Low | Out-Null
  }
  Assert-Said 'a process of low integrity' (& "$folder\low-whoami.exe" /groups | Out-String) 'Low Mandatory Level'
  Assert-Said 'a process of low integrity' (& "$folder\low-foreign.exe" open $name $take | Out-String) 'opened'
} finally {
  if ($maker) { Stop-Process -Id $maker.Id -Force }
  Remove-LocalUser $user -ErrorAction SilentlyContinue
  Remove-Item -Recurse -Force $folder -ErrorAction SilentlyContinue
}
