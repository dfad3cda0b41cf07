# Sourced by scripts/demo: the parts of which it makes a system on this machine,
# and the end of all of it. Whoever sources it has set root, dir, temporary and
# keep.

readonly sys="$dir/system"
mkdir "$sys"
# A Unix socket's path has at most 107 bytes: the demo's live in a short place.
readonly run="$(mktemp -d /tmp/ps.XXXXXX)"

declare -A pids=() card=()
finish() {
  local code=$? p
  trap - EXIT INT TERM
  if [[ $code -ne 0 ]]; then
    echo "the demo failed; the last lines of its logs:" >&2
    tail -n 3 "$sys"/*.log >&2 2>/dev/null || true
  fi
  if [[ -n $keep && $code -eq 0 ]]; then exit 0; fi
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
  rm -rf "$run"
  if [[ -n $temporary ]]; then rm -rf "$dir"; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Bold is for people at a terminal.
bold='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]]; then bold=$'\033[1m' plain=$'\033[0m'; fi
readonly bold plain
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
shown() { printf '$ %s\n' "$*"; "$@"; }
# approve DIGEST WHO...: each in turn; what all of them are shown is shown once.
approve() {
  local digest="$1" who; shift
  for who in "$@"; do
    printf '$ %s\n' "privyseal officer approve ${digest:0:12}… --card ${card[$who]}   # $who"
    privyseal officer approve "$digest" --yes --card "${card[$who]}" | tail -n 1
  done
}
digest_of() { sed -n 's/.*"request": *"\([0-9a-f]*\)".*/\1/p'; }
start() { # start NAME COMMAND...
  local name="$1"; shift
  setsid "$@" >>"$sys/$name.out" 2>>"$sys/$name.log" </dev/null &
  pids[$name]=$!
}
end() { # end SIGNAL NAME...
  local signal="$1" name; shift
  for name in "$@"; do kill "-$signal" "${pids[$name]}"; done
  for name in "$@"; do
    wait "${pids[$name]}" 2>/dev/null || true
    unset "pids[$name]"
  done
}
until_true() { # until_true SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "error: gave up waiting for: $*" >&2; return 1; }
    sleep 0.1
  done
}

# All of the status is read: a reader that stops at the first match ends its
# writer with SIGPIPE, and so fails the pipe, whenever that has more to say.
says_locked() { privyseal status | awk -v id="$1" '$1 == id && / locked/ { found = 1 } END { exit !found }'; }

# build PACKAGE...: programs, into the system's own directory.
build() {
  local cache where
  export GOFLAGS="${GOFLAGS:-} -trimpath"
  mkdir "$sys/bin"
  # An account without a home directory, or with one that it may not write to, has
  # no place for Go's caches: they go with the demo.
  for cache in GOCACHE GOMODCACHE; do
    where="$(go env "$cache" 2>/dev/null || true)"
    if [[ $where != /* ]] || ! mkdir -p "$where" 2>/dev/null; then
      export "$cache=$run/go/$cache" GOFLAGS="$GOFLAGS -modcacherw"
    fi
  done
  (cd "$root" && go build -o "$sys/bin/" "$@")
  export PATH="$sys/bin:$PATH"
}

# make_cards WHO...: a card for each, in readers of a pcscd of their own.
make_cards() {
  local who
  mkdir "$sys/cards" "$sys/pins"
  for who in "$@"; do
    tr -dc 0-9 </dev/urandom | head -c 8 >"$sys/pins/new" || true
    card[$who]="$(privyseal-virtualcard --dir "$sys/cards" create --pin-file "$sys/pins/new" | tr -dc 0-9)"
    mv "$sys/pins/new" "$sys/pins/${card[$who]}"
  done
  cat >"$sys/pinentry" <<'END'
#!/bin/bash
# The demo's people type their PINs: a pinentry that knows the card from the
# question.
echo "OK ready"
while read -r word rest; do
  case "$word" in
    SETDESC | SETPROMPT) [[ $rest =~ card[^0-9]*([0-9]+) ]] && card="${BASH_REMATCH[1]}"; echo OK ;;
    GETPIN) printf 'D %s\nOK\n' "$(cat "$(dirname "$0")/pins/$card")" ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
END
  chmod 700 "$sys/pinentry"
  export PRIVYSEAL_PINENTRY="$sys/pinentry" PCSCLITE_CSOCK_NAME="$run/pcscd"
  export XDG_CONFIG_HOME="$sys/home"
  start cards privyseal-virtualcard --dir "$sys/cards" run --cards $# --socket "$run/pcscd"
  until_true 20 test -s "$sys/cards.out"
  for who in "$@"; do
    privyseal card enrol --card "${card[$who]}" --name "$who" >/dev/null
  done
}

# The officers of each device, by its number. A story that needs more devices adds
# them before it makes the sites.
declare -A officers=([1]="o1a o1b" [2]="o2a o2b" [3]="o3a o3b" [4]="o4a o4b" [5]="o5a o5b")
site_of() { echo "s$((($1 - 1) % 5 + 1))"; } # site_of NUMBER: the server a device hangs on

# make_sites: message servers s1 to s5 and devices d1 to d5, or more, all of them
# running. Server sI waits for its peers at $run/sI; device dI dials $run/dI, which
# is its server's place, or a line with somebody on it.
make_sites() {
  local ports=() p i
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Demo device works" \
    -keyout "$sys/works.key" -out "$sys/works.pem" 2>/dev/null
  # Ports that nobody listens on just now.
  while ((${#ports[@]} < 10)); do
    p=$((20000 + RANDOM % 10000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null && [[ " ${ports[*]} " != *" $p "* ]]; then ports+=("$p"); fi
  done
  for i in 1 2 3 4 5; do
    privyseal-server init --dir "$sys/s$i" --id "s$i" --name "Site $i" --https "127.0.0.1:${ports[i - 1]}" \
      --route "127.0.0.1:${ports[i + 4]}" --link "unix:$run/s$i" >"$sys/s$i.json"
  done
  for ((i = 1; i <= ${#officers[@]}; i++)); do
    privyseal-device init --dir "$sys/d$i" --id "d$i" --serial "PD-000$i" --model "Demo device" --link "unix:$run/d$i" >/dev/null
    privyseal-device certify --dir "$sys/d$i" --ca-cert "$sys/works.pem" --ca-key "$sys/works.key" >/dev/null
  done
  for i in 1 2 3 4 5; do
    start "s$i" privyseal-server run --dir "$sys/s$i"
    until_true 10 test -S "$run/s$i"
  done
  for ((i = 1; i <= ${#officers[@]}; i++)); do
    [[ -S $run/d$i ]] || ln -s "$(site_of "$i")" "$run/d$i"
    start "d$i" privyseal-device run --dir "$sys/d$i"
  done
  for ((i = 1; i <= ${#officers[@]}; i++)); do until_true 60 grep -q 'link is up' "$sys/d$i.log"; done
}

# The ceremony's file, from its beginning to the officers; keys are the story's.
# YAML takes JSON, so what the servers say of themselves goes in as it is.
# ceremony_file HEARTBEAT WHO...: each device's policy, or nothing; all persons.
ceremony_file() {
  local heartbeat="$1" who i; shift
  indent() { sed 's/^/      /' "$1"; }
  cat <<END
system: Demo authority
lead: d1
hours: 4
officer_days: 365
witnesses: [Wilma Witness, Walter Witness]
administrator: admin
servers:
END
  for i in 1 2 3 4 5; do echo "  - $(tr -d '\n' <"$sys/s$i/identity.json")"; done
  echo "devices:"
  for ((i = 1; i <= ${#officers[@]}; i++)); do
    echo "  - {id: d$i, name: Device $i, server: $(site_of "$i"), model: Demo device, serial: PD-000$i, use: auto, unlock_quorum: 2${heartbeat:+, heartbeat: $heartbeat}}"
  done
  cat <<END
manufacturers:
  - kind: device
    manufacturer: Demo device works
    model: Demo device
    standard: none
    root: |
$(indent "$sys/works.pem")
  - kind: card
    manufacturer: Demo card works
    model: Virtual PIV
    standard: none
    root: |
$(indent "$sys/cards/root.pem")
persons:
END
  for who in "$@"; do echo "  - {id: $who, name: ${who^}, cards: [${card[$who]}]}"; done
  echo "officers:"
  for ((i = 1; i <= ${#officers[@]}; i++)); do
    for who in ${officers[$i]}; do echo "  - {person: $who, device: d$i, class: officer}"; done
  done
}

# if_kept KEY: what to type next, if the system runs on.
if_kept() {
  local key="$1" who
  [[ -n $keep ]] || return 0
  cat <<END

The system runs on. To work with it:
  export PATH=$sys/bin:\$PATH
  export XDG_CONFIG_HOME=$sys/home PCSCLITE_CSOCK_NAME=$run/pcscd PRIVYSEAL_PINENTRY=$sys/pinentry
  privyseal status
  privyseal request certificate --csr FILE --profile server --key $key --card ${card[rosa]}
  privyseal officer inbox --card ${card[o1a]}
  privyseal officer approve --all --card ${card[o1a]}
Cards: $(for who in "${people[@]}"; do printf '%s %s  ' "$who" "${card[$who]}"; done)
To end it:
  kill ${pids[*]}; rm -rf $run
END
}
