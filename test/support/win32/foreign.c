// A program that knows nothing of os-mutex: it uses the same kernel objects and files by bare Win32, and tells what the kernel
// tells of them. Compiled to out/test/support/win32/foreign.exe by (in the root of the checkout)
//
//   x86_64-w64-mingw32-gcc -std=c11 -O2 -s -Wall -Wextra -Werror -municode -static test/support/win32/foreign.c -o out/test/support/win32/foreign.exe -ladvapi32
//
// foreign.exe COMMAND ARGUMENT…: see `commands` at the end. What holds something says so in a line and lets go when its input ends.
#include <windows.h>
#include <winternl.h>
#include <sddl.h>
#include <aclapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tlhelp32.h>
#include <wchar.h>

static int failed(const char* call, DWORD error) {
  printf("failed %s %lu\n", call, error);
  fflush(stdout);
  return 1;
}

static void say(const char* what) {
  puts(what);
  fflush(stdout);
}

static void untilInputEnds(void) {
  char byte;
  DWORD count;
  while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), &byte, 1, &count, NULL) && count != 0) {
  }
}

// Waits for the mutex as any program would.
static int hold(wchar_t** arguments) {
  HANDLE mutex = CreateMutexW(NULL, FALSE, arguments[0]);
  if (mutex == NULL) return failed("CreateMutex", GetLastError());
  say("waiting");
  const DWORD result = WaitForSingleObject(mutex, INFINITE);
  if (result == WAIT_FAILED) return failed("WaitForSingleObject", GetLastError());
  say(result == WAIT_ABANDONED ? "held abandoned" : "held");
  untilInputEnds();
  if (!ReleaseMutex(mutex)) return failed("ReleaseMutex", GetLastError());
  CloseHandle(mutex);
  say("done");
  return 0;
}

// Keeps a handle, so that the kernel does not forget the mutex, and neither owns it nor waits.
static int keep(wchar_t** arguments) {
  HANDLE mutex = CreateMutexW(NULL, FALSE, arguments[0]);
  if (mutex == NULL) return failed("CreateMutex", GetLastError());
  say("made");
  untilInputEnds();
  return 0;
}

// "opened", or "refused ERROR". Asks for these rights, as CreateMutexEx lets a program do; CreateMutex asks for 0x1F0001.
static int openMutex(wchar_t** arguments) {
  if (CreateMutexExW(NULL, arguments[0], 0, wcstoul(arguments[1], NULL, 16)) != NULL) return say("opened"), 0;
  printf("refused %lu\n", GetLastError());
  fflush(stdout);
  return 0;
}

static int event(wchar_t** arguments) {
  if (CreateEventW(NULL, FALSE, FALSE, arguments[0]) == NULL) return failed("CreateEvent", GetLastError());
  say("made");
  untilInputEnds();
  return 0;
}

// A mutex with a security descriptor of the caller's choice (SDDL).
static int guarded(wchar_t** arguments) {
  SECURITY_ATTRIBUTES security = {sizeof security, NULL, FALSE};
  if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(arguments[1], SDDL_REVISION_1, &security.lpSecurityDescriptor, NULL)) {
    return failed("ConvertStringSecurityDescriptorToSecurityDescriptor", GetLastError());
  }
  if (CreateMutexW(&security, FALSE, arguments[0]) == NULL) return failed("CreateMutex", GetLastError());
  say("made");
  untilInputEnds();
  return 0;
}

// The same for a file, which is made.
static int guardedFile(wchar_t** arguments) {
  SECURITY_ATTRIBUTES security = {sizeof security, NULL, FALSE};
  if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(arguments[1], SDDL_REVISION_1, &security.lpSecurityDescriptor, NULL)) {
    return failed("ConvertStringSecurityDescriptorToSecurityDescriptor", GetLastError());
  }
  HANDLE file = CreateFileW(arguments[0], GENERIC_READ | GENERIC_WRITE, 0, &security, CREATE_NEW, 0, NULL);
  return file == INVALID_HANDLE_VALUE ? failed("CreateFile", GetLastError()) : 0;
}

static int tellSecurity(HANDLE handle, SE_OBJECT_TYPE type) {
  PSECURITY_DESCRIPTOR descriptor;
  const DWORD error = GetSecurityInfo(handle, type, DACL_SECURITY_INFORMATION, NULL, NULL, NULL, NULL, &descriptor);
  if (error != ERROR_SUCCESS) return failed("GetSecurityInfo", error);
  char* text;
  if (!ConvertSecurityDescriptorToStringSecurityDescriptorA(descriptor, SDDL_REVISION_1, DACL_SECURITY_INFORMATION, &text, NULL)) {
    return failed("ConvertSecurityDescriptorToStringSecurityDescriptor", GetLastError());
  }
  say(text);
  return 0;
}

// The user of this process, as SDDL writes it: some users have letters there.
static int user(wchar_t** arguments) {
  (void)arguments;
  HANDLE token;
  if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token)) return failed("OpenProcessToken", GetLastError());
  union {
    TOKEN_USER user;
    char bytes[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
  } told;
  DWORD size;
  if (!GetTokenInformation(token, TokenUser, &told, sizeof told, &size)) return failed("GetTokenInformation", GetLastError());
  SECURITY_DESCRIPTOR descriptor;
  char* text;
  if (!InitializeSecurityDescriptor(&descriptor, SECURITY_DESCRIPTOR_REVISION) ||
      !SetSecurityDescriptorOwner(&descriptor, told.user.User.Sid, FALSE) ||
      !ConvertSecurityDescriptorToStringSecurityDescriptorA(&descriptor, SDDL_REVISION_1, OWNER_SECURITY_INFORMATION, &text, NULL)) {
    return failed("ConvertSecurityDescriptorToStringSecurityDescriptor", GetLastError());
  }
  say(text + strlen("O:"));
  return 0;
}

static int mutexSecurity(wchar_t** arguments) {
  HANDLE mutex = OpenMutexW(READ_CONTROL, FALSE, arguments[0]);
  return mutex == NULL ? failed("OpenMutex", GetLastError()) : tellSecurity(mutex, SE_KERNEL_OBJECT);
}

static int fileSecurity(wchar_t** arguments) {
  const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  HANDLE file = CreateFileW(arguments[0], READ_CONTROL, share, NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
  return file == INVALID_HANDLE_VALUE ? failed("CreateFile", GetLastError()) : tellSecurity(file, SE_FILE_OBJECT);
}

// Opens a file and lets nobody else open it.
static int monopolise(wchar_t** arguments) {
  HANDLE file = CreateFileW(arguments[0], GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_ALWAYS, 0, NULL);
  if (file == INVALID_HANDLE_VALUE) return failed("CreateFile", GetLastError());
  say("made");
  untilInputEnds();
  return 0;
}

static HANDLE ended;

static DWORD WINAPI watchInput(void* unused) {
  (void)unused;
  untilInputEnds();
  SetEvent(ended);
  return 0;
}

// Writes noise over a file, again and again, with now and then a mark of an owner.
static int scribble(wchar_t** arguments) {
  const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE;
  HANDLE file = CreateFileW(arguments[0], GENERIC_READ | GENERIC_WRITE, share, NULL, OPEN_ALWAYS, 0, NULL);
  if (file == INVALID_HANDLE_VALUE) return failed("CreateFile", GetLastError());
  HANDLE mapping = CreateFileMappingW(file, NULL, PAGE_READWRITE, 0, 4096, NULL);
  volatile char* view = mapping == NULL ? NULL : MapViewOfFile(mapping, FILE_MAP_WRITE, 0, 0, 4096);
  if (view == NULL) return failed("MapViewOfFile", GetLastError());
  ended = CreateEventW(NULL, TRUE, FALSE, NULL);
  CreateThread(NULL, 0, &watchInput, NULL, 0, NULL);
  say("made");
  for (unsigned round = 1; WaitForSingleObject(ended, 0) == WAIT_TIMEOUT; round++) {
    for (int at = 0; at < 4096; at++) view[at] = (char)(round * 31u + (unsigned)at * 7u + (unsigned)(at * at));
    if (round % 3 == 0) view[1] = 'H';
    if (round % 3 == 1) view[1] = 'F';
  }
  return 0;
}

typedef struct {
  ULONG attributes;
  ACCESS_MASK access;
  ULONG handleCount;
  ULONG pointerCount;
  ULONG reserved[10];
} ObjectBasics;

typedef struct {
  LONG currentCount;
  BOOLEAN ownedByCaller;
  BOOLEAN abandonedState;
} MutantBasics;

typedef NTSTATUS(NTAPI* QueryMutant)(HANDLE, int, void*, ULONG, ULONG*);
typedef NTSTATUS(NTAPI* QueryObject)(HANDLE, int, void*, ULONG, ULONG*);
typedef NTSTATUS(NTAPI* ChangeProcess)(HANDLE);

static FARPROC inNtdll(const char* name) { return GetProcAddress(GetModuleHandleW(L"ntdll.dll"), name); }

// References beyond those of its handles.
static long extraReferences(HANDLE object) {
  ObjectBasics basics;
  QueryObject query = (QueryObject)(void*)inNtdll("NtQueryObject");
  if (query(object, 0, &basics, sizeof basics, NULL) < 0) return -1000;
  return (long)basics.pointerCount - (long)basics.handleCount;
}

static DWORD WINAPI waitForIt(void* mutex) {
  WaitForSingleObject(mutex, INFINITE);
  return 0;
}

static BOOL calibrated(long* base) {
  HANDLE own = CreateMutexW(NULL, TRUE, NULL);
  *base = extraReferences(own);
  // As many threads as are named wait, and just as many references must come.
  for (int count = 1; count <= 2; count++) {
    CreateThread(NULL, 0, &waitForIt, own, 0, NULL);
    for (int turn = 0; extraReferences(own) != *base + count; turn++) {
      if (turn == 200) return FALSE;
      Sleep(5);
    }
  }
  return TRUE;
}

// "HELD WAITERS" of a mutex. Windows lists no waiters; but where each of them counts as one more reference to the object, and
// a test with waiters of our own proves that first, their number is known. Else "unknown".
static int line(wchar_t** arguments) {
  long base;
  if (!calibrated(&base)) return say("unknown"), 0;
  HANDLE mutex = OpenMutexW(SYNCHRONIZE | MUTEX_MODIFY_STATE, FALSE, arguments[0]);
  if (mutex == NULL) return GetLastError() == ERROR_FILE_NOT_FOUND ? say("0 0"), 0 : failed("OpenMutex", GetLastError());
  MutantBasics state;
  QueryMutant query = (QueryMutant)(void*)inNtdll("NtQueryMutant");
  if (query(mutex, 0, &state, sizeof state, NULL) < 0) return failed("NtQueryMutant", 0);
  printf("%d %ld\n", state.currentCount < 1, extraReferences(mutex) - base);
  fflush(stdout);
  return 0;
}

typedef struct {
  PVOID object;
  ULONG_PTR pid;
  ULONG_PTR value;
  ULONG access;
  USHORT backTrace;
  USHORT type;
  ULONG attributes;
  ULONG reserved;
} HandleEntry;

typedef struct {
  ULONG_PTR count;
  ULONG_PTR reserved;
  HandleEntry handles[];
} HandleList;

typedef NTSTATUS(NTAPI* QuerySystem)(int, void*, ULONG, ULONG*);

// By the list of all: GetProcessHandleCount() tells 0 under Wine.
static long handlesOf(DWORD pid) {
  QuerySystem query = (QuerySystem)(void*)inNtdll("NtQuerySystemInformation");
  for (ULONG size = 1u << 20; size < 1u << 28; size *= 2) {
    HandleList* list = malloc(size);
    const NTSTATUS status = query(64, list, size, NULL);  // SystemExtendedHandleInformation
    long count = 0;
    for (ULONG_PTR index = 0; status >= 0 && index < list->count; index++) count += list->handles[index].pid == pid;
    free(list);
    if (status >= 0) return count;
  }
  return -1;
}

// "THREADS NAMED HANDLES" of a process: all its threads, those called "os-mutex", and its handles.
static int counts(wchar_t** arguments) {
  typedef HRESULT(WINAPI * GetDescription)(HANDLE, PWSTR*);
  GetDescription describe = (GetDescription)(void*)GetProcAddress(GetModuleHandleW(L"kernelbase.dll"), "GetThreadDescription");
  const DWORD pid = wcstoul(arguments[0], NULL, 10);
  int threads = 0;
  int named = 0;
  HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
  THREADENTRY32 entry = {.dwSize = sizeof entry};
  for (BOOL more = Thread32First(all, &entry); more; more = Thread32Next(all, &entry)) {
    if (entry.th32OwnerProcessID != pid) continue;
    threads++;
    HANDLE thread = OpenThread(THREAD_QUERY_LIMITED_INFORMATION, FALSE, entry.th32ThreadID);
    PWSTR name = NULL;
    if (describe != NULL && thread != NULL && SUCCEEDED(describe(thread, &name)) && wcscmp(name, L"os-mutex") == 0) named++;
    if (thread != NULL) CloseHandle(thread);
  }
  printf("%d %d %ld\n", threads, named, handlesOf(pid));
  fflush(stdout);
  return 0;
}

static int change(wchar_t** arguments, const char* function) {
  HANDLE process = OpenProcess(PROCESS_SUSPEND_RESUME, FALSE, wcstoul(arguments[0], NULL, 10));
  if (process == NULL) return failed("OpenProcess", GetLastError());
  const NTSTATUS status = ((ChangeProcess)(void*)inNtdll(function))(process);
  return status < 0 ? failed(function, (DWORD)status) : 0;
}

// What SIGSTOP and SIGCONT are elsewhere.
static int freeze(wchar_t** arguments) { return change(arguments, "NtSuspendProcess"); }
static int thaw(wchar_t** arguments) { return change(arguments, "NtResumeProcess"); }

static const struct {
  const wchar_t* name;
  int arguments;
  int (*run)(wchar_t** arguments);
} commands[] = {
    {L"hold", 1, hold},                      // MUTEX
    {L"keep", 1, keep},                      // MUTEX
    {L"open", 2, openMutex},                 // MUTEX RIGHTS
    {L"user", 0, user},                      //
    {L"event", 1, event},                    // NAME
    {L"guarded", 2, guarded},                // MUTEX SDDL
    {L"guarded-file", 2, guardedFile},       // PATH SDDL
    {L"mutex-security", 1, mutexSecurity},   // MUTEX
    {L"file-security", 1, fileSecurity},     // PATH
    {L"monopolise", 1, monopolise},          // PATH
    {L"scribble", 1, scribble},              // PATH
    {L"line", 1, line},                      // MUTEX
    {L"counts", 1, counts},                  // PID
    {L"freeze", 1, freeze},                  // PID
    {L"thaw", 1, thaw},                      // PID
};

int wmain(int count, wchar_t** arguments) {
  for (size_t index = 0; count > 1 && index < sizeof commands / sizeof *commands; index++) {
    if (wcscmp(arguments[1], commands[index].name) == 0 && count == commands[index].arguments + 2) {
      return commands[index].run(arguments + 2);
    }
  }
  fputs("foreign.exe: no such command\n", stderr);
  return 2;
}
