# Sourced by scripts/demo --theft: a device is stolen in the middle of a load of
# requests. Everything that is said here is checked: a claim that does not hold
# ends the demo.
#
# Besides the products it uses two programs of its own: load (people who ask and
# approve, with their cards, without a pause) and thief (what a thief might
# write for himself).

# so COMMAND...: it is so, or the demo ends.
so() { "$@" || die "this does not hold: $*"; }
# fails TEXT COMMAND...: shows a command that must fail, for a reason with this
# text in it.
fails() {
  local text="$1"; shift
  printf '$ %s\n' "$*"
  if "$@" >"$sys/said" 2>&1; then die "this succeeded: $*"; fi
  cat "$sys/said"
  so grep -q "$text" "$sys/said"
}
now() { date +%s.%3N; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b - a }'; }
within() { awk -v x="$1" -v most="$2" 'BEGIN { exit !(x >= 0 && x <= most) }'; }
# requests FROM TO: what became of the load's requests that ended between.
requests() {
  awk -v from="$1" -v to="$2" '
    $1 >= from && $1 < to { n[$2]++; took[++k] = $3; if ($2 == "signed") by[$4]++ }
    END {
      for (i = 1; i <= k; i++) for (j = i; j > 1 && took[j - 1] > took[j]; j--) { x = took[j]; took[j] = took[j - 1]; took[j - 1] = x }
      printf "%d signed, %d failed, in %.1f s: %.1f a second, median %.1f s, slowest %.1f s; signed by", n["signed"], n["failed"], to - from, k / (to - from), took[int((k + 1) / 2)], took[k]
      for (d in by) printf " %s (%d)", d, by[d]
      print ""
    }' "$sys/load.out"
}
signed_since() { (($(awk -v from="$1" '$1 >= from && $2 == "signed"' "$sys/load.out" | wc -l) >= $2)); }
without_d3() { awk -v from="$1" '$1 - $3 >= from && /d3/ { found = 1 } END { exit found }' "$sys/load.out"; } # of those that began since
none_failed() { ! grep -q ' failed ' "$sys/load.out"; }

# Short paths in what is shown; what is started has long ones, to be found by.
cd "$sys"

say "build"
build "${products[@]}" ./cmd/privyseal-heartbeat ./cmd/internal/load ./cmd/internal/thief
readonly began=$SECONDS

say "cards, five message servers, five devices; three heartbeat sources in other rooms"
# Two officers for each device, the temporary administrator, two requesters, and
# an operator of the heartbeat sources, who is no officer.
readonly people=(o1a o1b o2a o2b o3a o3b o4a o4b o5a o5b admin rosa ruth olga)
make_cards "${people[@]}"
# Device 3 is going to be stolen. The thief has prepared that: from the first
# message on he listens on the line between the device and its server.
start tap thief tap --link "unix:$run/d3" --to "unix:$run/s3" --out "$sys/recording"
until_true 10 test -S "$run/d3"
make_sites
source_of() { # source_of ID NAME KIND SERVER
  privyseal-heartbeat init --dir "$sys/$1" --id "$1" --name "$2" --kind "$3" --server "$4" --link "unix:$run/$4" --operator olga >"$sys/$1.yaml"
}
source_of porter "Porter's lodge" message s1
source_of cellar "Cellar" sequence s2
source_of tower "Clock tower" satellite s4
readonly sources=(porter cellar tower) lease=3
{
  ceremony_file "{sources: [porter, cellar, tower], needed: 2, period: 500ms, lease: ${lease}s, minimum: 2, loss: 2}" "${people[@]}"
  echo "sources:"
  for s in "${sources[@]}"; do cat "$sys/$s.yaml"; done
  cat <<END
keys:
  - {id: swa, name: Demo system-wide authority, family: ledger, mode: parallel, need: 4, devices: [d1, d2, d3, d4, d5],
     bits: 2048, algorithms: [RS256], max_days: 400, root_days: 3650, quorum: 2, pieces: 2}
  - {id: certs, name: Demo CA, family: certificate, mode: parallel, need: 3, devices: [d1, d2, d3, d4, d5],
     bits: 2048, algorithms: [RS256, PS256], max_days: 400, root_days: 3650, quorum: 2, pieces: 2}
END
} >"$sys/ceremony.yaml"
printf '$ %s\n' "privyseal ceremony check ceremony.yaml   # of which device 3's part:"
privyseal ceremony check "$sys/ceremony.yaml" | sed -n '/^heartbeat *d3 /,/^heartbeat *d4 /{/d4/!p}'

say "the ceremony, and the first beats"
# They wait for the system; devices sign nothing, not even each other's
# certificates, before they beat.
for s in "${sources[@]}"; do start "$s" privyseal-heartbeat run --dir "$sys/$s"; done
privyseal ceremony run "$sys/ceremony.yaml" --dir "$sys/ceremony" 2>"$sys/ceremony.log" | tail -n 3
cp "$sys/ceremony/certs-root.pem" "$dir/ca.pem"
until_true 30 privyseal heartbeat status
leases() { # leases [DEVICE...]: without what servers say of sources, and alarms
  printf '$ %s\n' "privyseal heartbeat status${*:+ $*}"
  so privyseal heartbeat status "$@" >"$sys/leases"
  sed '/^$/,$d' "$sys/leases"
}
leases

say "a load of requests: certificates, three of five devices for each, two of two officers at each"
readonly from="$(now)"
start load load -every 400ms -home "$sys/home/privyseal" -pins "$sys/pins" -key certs -requester "${card[rosa]}" \
  -officers "$(for who in "${people[@]:0:10}"; do printf '%s\n' "${card[$who]}"; done | paste -sd,)"
until_true 60 signed_since "$from" 15
echo "with five devices: $(requests "$from" "$(now)")"
so none_failed

say "device 3 is not where it should be: Olga takes its heartbeat away"
readonly asked="$(now)"
printf '$ %s\n' "privyseal heartbeat revoke d3 --reason 'not in its room' --card ${card[olga]}   # olga"
privyseal heartbeat revoke d3 --reason "not in its room" --card "${card[olga]}" <<<d3 2>"$sys/revoke.log" || { cat "$sys/revoke.log" >&2; die "the device is not silenced"; }
readonly told="$(now)"
over() { grep -m 1 'the lease is over: the token is locked' "$sys/d3.log"; }
until_true $((lease + 5)) over
echo "device 3 wrote: $(over)"
readonly closed="$(date -d "$(over | sed 's/^time=\([^ ]*\).*/\1/')" +%s.%3N)"
echo "from the sources' word to the closed session: $(seconds "$told" "$closed") s; the policy allows $lease s"
so within "$(seconds "$asked" "$closed")" "$(awk -v l=$lease -v a="$asked" -v t="$told" 'BEGIN { print l + t - a + 0.1 }')"
until_true 5 says_locked d3
privyseal status | grep '^  d3 '
printf '$ %s\n' "privyseal heartbeat status d3"
if privyseal heartbeat status d3 2>/dev/null >"$sys/leases"; then die "device 3 has a lease"; fi
sed '/^$/,/^Alarms/d' "$sys/leases" | awk 'NR == 1 { print; next } { line[NR] = $0 } END { for (i = NR - 3; i <= NR; i++) print line[i] }'

say "the load goes on with the others"
until_true 60 signed_since "$closed" 15
echo "before:                    $(requests "$from" "$asked")"
echo "while the lease ran out:   $(requests "$asked" "$closed")"
echo "since the session closed:  $(requests "$closed" "$(now)")"
so none_failed
so without_d3 "$closed"

say "the thief: he has device 3, its disk, its token and its PIN, its server's keys, and all that passed its line"
end KILL d3 tap
mkdir thief
cp -a d3 s3 thief/
ls -C thief/d3 thief/s3
echo "The PIN he could not have: it takes the cards of both officers, and is granted him here."
shown thief pin --device thief/d3 --cards "${card[o3a]},${card[o3b]}" --pins pins --out thief/pin
readonly loot=(--home home/privyseal --id d3)

say "the thief starts it at home, with a message server of his own that repeats everything ever said to it"
cp -a thief/d3 thief/d3-at-home
sed -i "s|unix:$run/d3|unix:$run/thief|" thief/d3-at-home/device.json
start d3-at-home privyseal-device run --dir "$sys/thief/d3-at-home"
shown thief replay "${loot[@]}" --server thief/s3 --recording recording --link "unix:$run/thief"
end TERM d3-at-home

say "he puts the PIN where it lay before the ceremony, for the device to open its token itself"
cp -a thief/d3 thief/d3-with-pin
cp thief/pin thief/d3-with-pin/transport-pin
fails "finishing an interrupted commissioning" timeout 10 privyseal-device run --dir thief/d3-with-pin

say "he changes the device's software: it opens the token with the PIN, never locks it, and hears everything again"
shown thief patched --device thief/d3 --pin-file thief/pin --server thief/s3 --recording recording

say "he asks the real sources for beats, over the real network, with software of his own and the token's signature"
shown thief challenge "${loot[@]}" --device thief/d3 --pin-file thief/pin --recording recording --link "unix:$run/s3"

say "he opens the token himself and looks for the share"
readonly all=(--device thief/d3 --pin-file thief/pin --server thief/s3 --recording recording --key certs)
shown thief open "${loot[@]}" "${all[@]}"
echo "And if both officers helped him? Then it has to work, or the attempt was none:"
shown thief open "${loot[@]}" "${all[@]}" --cards "${card[o3a]},${card[o3b]}" --pins pins | tail -n 1

say "device 3 is found, and put back in its room: its officers unlock it"
ln -sf s3 "$run/d3"
start d3 privyseal-device run --dir "$sys/d3"
until_true 20 says_locked d3
for who in o3a o3b; do shown privyseal officer unlock d3 --card "${card[$who]}"; done
until_true 20 privyseal heartbeat status d3
leases d3

say "the next request goes by device 3"
openssl req -new -newkey rsa:2048 -nodes -keyout "$dir/request.key" -subj "/C=GB/O=Demo/CN=www.demo.example" \
  -addext "subjectAltName=DNS:www.demo.example" -out "$dir/request.csr" 2>/dev/null
digest="$(privyseal request certificate --csr "$dir/request.csr" --profile server --key certs --devices d1,d3,d5 --card "${card[ruth]}" --json | digest_of)"
shown privyseal request status "$digest" --wait --out "$dir/cert.pem" 2>&1 | tee "$sys/status"
so grep -q '^signed by d1, d3, d5' "$sys/status"
shown openssl verify -x509_strict -CAfile "$dir/ca.pem" "$dir/cert.pem"

say "the whole load"
kill "${pids[load]}"
so wait "${pids[load]}"
unset "pids[load]"
requests "$from" "$(now)"
so none_failed
echo "took $((SECONDS - began)) s after the build"
if_kept certs
