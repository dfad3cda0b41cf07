# Sourced by scripts/demo --tolerant-ca: a certificate authority in two layers
# goes on issuing while its machines die and lie. Everything that is said here is
# checked: a claim that does not hold ends the demo.
#
# Besides the products it uses one program of its own, load (people who ask and
# approve, with their cards, without a pause), and twice the signing device itself
# with one line of its source changed: that is what a liar is.

readonly k=5 t=3 m=3 all=100 batch=20

# machine WHAT NUMBER: the device that is this calculator or combiner.
machine() {
  case "$1 $2" in
    calculator\ 6) echo d9 ;;
    calculator*) echo "d$2" ;;
    combiner*) echo "d$((k + $2))" ;;
  esac
}
signed() { awk '$2 == "signed"' "$sys"/load?.out 2>/dev/null | wc -l; }
have_signed() { (($(signed) >= $1)); }
none_failed() { ! awk '$2 == "failed" { found = 1; print } END { exit !found }' "$sys"/load?.out; }
told() { # told FROM: what became of the certificates after the first FROM
  awk -v from="$1" '
    { line[++n] = $0 }
    END {
      for (i = from + 1; i <= n; i++) {
        split(line[i], f, " ")
        c[f[2]]++; took[++j] = f[3]; if (!begun) begun = f[1] - f[3]; end = f[1]
        who = f[4]; for (w = 5; w in f; w++) who = who " " f[w]
        by[who]++
      }
      for (i = 1; i <= j; i++) for (x = i; x > 1 && took[x - 1] > took[x]; x--) { s = took[x]; took[x] = took[x - 1]; took[x - 1] = s }
      printf "%d certificates, %d failed, in %.1f s; median %.1f s, slowest %.1f s\n", c["signed"], c["failed"], end - begun, took[int((j + 1) / 2)], took[j]
      for (who in by) printf "  %3d by %s\n", by[who], who
    }' <(cat "$sys"/load?.out | sort -n)
}
open_again() { # open_again NUMBER: its officers unlock a device
  local who
  until_true 20 says_locked "d$1"
  for who in ${officers[$1]}; do printf '$ %s\n' "privyseal officer unlock d$1 --card ${card[$who]}   # $who"; privyseal officer unlock "d$1" --card "${card[$who]}" 2>>"$sys/unlock.log" | tail -n 1; done
}
# lie NAME FILE FROM TO: the signing device with one line of its source changed.
lie() {
  local name="$1" file="$root/firmware/$2" from="$3" to="$4"
  sed "s/$from/$to/" "$file" >"$sys/$name.go"
  if cmp -s "$file" "$sys/$name.go"; then die "the line that was to be changed is not there: $from"; fi
  diff "$file" "$sys/$name.go" | grep '^[<>]' || true
  printf '{"Replace": {"%s": "%s"}}\n' "$file" "$sys/$name.go" >"$sys/$name.json"
  (cd "$root" && go build -overlay "$sys/$name.json" -o "$sys/bin/$name" ./cmd/privyseal-device)
}

cd "$sys"

say "build; also two devices that will lie"
build "${products[@]}" ./cmd/privyseal-distributor ./cmd/internal/load
echo "a calculator whose powers are wrong:"
lie lying-calculator calculate.go 'if err := c.add(recPowers' 'for _, y := range j.out.Y { y[len(y)-1] ^= 2 }; if err := c.add(recPowers'
echo "a combiner whose signatures are wrong:"
lie lying-combiner combine.go 'append(out.Signatures, s.Signature)' 'append(out.Signatures, append(s.Signature[:len(s.Signature)-1:len(s.Signature)-1], s.Signature[len(s.Signature)-1]^2))'
readonly began=$SECONDS

say "cards, five message servers, nine devices, and the ceremony of the system that they are of"
officers[6]="o6a o6b" officers[7]="o6a o6b" officers[8]="o6a o6b" officers[9]="o5a o5b"
readonly people=(o1a o1b o2a o2b o3a o3b o4a o4b o5a o5b o6a o6b admin rosa vera)
make_cards "${people[@]}"
make_sites
{
  ceremony_file "" "${people[@]}"
  cat <<END
shared_officers: true # one pair of officers serves all combiners
keys:
  - {id: swa, name: Demo system-wide authority, family: ledger, mode: parallel, need: 4, devices: [d1, d2, d3, d4, d5],
     bits: 2048, algorithms: [RS256], max_days: 400, root_days: 3650, quorum: 2, pieces: 2}
  - {id: files, name: Demo files, family: file, mode: parallel, need: 2, devices: [d6, d7, d8, d9],
     bits: 2048, algorithms: [RS256], quorum: 2, pieces: 2}
END
} >"$sys/ceremony.yaml"
privyseal ceremony run "$sys/ceremony.yaml" --dir "$sys/ceremony" 2>"$sys/ceremony.log" | tail -n 1

# plan CALCULATOR...: the plan of an authority with calculators 1 to 5, and more.
plan() {
  local i who
  cat <<END
enterprise: {code: 22, name: Example enterprise}
key: {id: acme, name: Example tolerant CA, bits: 2048, safe_primes: true, algorithms: [RS256, PS256], max_days: 400, root_days: 3650}
need: $t
sub_keys: 3
redundant: 7
calculators:
END
  for i in 1 2 3 4 5 "$@"; do echo "  - {number: $i, device: $(machine calculator "$i")}"; done
  echo "combiners:"
  for ((i = 1; i <= m; i++)); do echo "  - {number: $i, device: $(machine combiner "$i")}"; done
  echo "officers:"
  for ((i = 1; i <= k + m + $#; i++)); do
    for who in ${officers[$i]}; do echo "  - {person: $who, device: d$i}"; done
  done
  cat <<END
quorum: 2
pieces: 2
officer_days: 365
distributors: [{number: 1, server: s5}]
operator: vera
reserve: $reserve
END
}
# off_line COMMAND...: where there is no network: in a network namespace of its own.
off_line() {
  local user=
  ((EUID == 0)) || user=r
  unshare "-${user}nm" sh -c 'mount -t sysfs sysfs /sys && exec "$@"' sh "$@"
}
# deal VERB PLAN MEDIUM...: from the plan to the ledger. The medium is carried to
# the distributor and back.
deal() {
  local verb="$1" plan="$2" medium="$3" digest; shift 3
  printf '$ %s\n' "privyseal authority invite $plan --out $medium"
  privyseal authority invite "$plan" --out "$medium" 2>"$sys/invite.log" | tail -n 1
  printf '$ %s\n' "privyseal-distributor $verb $medium${*:+ $*}   # a machine without a network, with a card reader"
  mkdir -p "$sys/offline"
  HOME="$sys/offline" TMPDIR="$sys/offline" XDG_CONFIG_HOME="$sys/offline" off_line privyseal-distributor "$verb" "$medium" "$@" \
    --system "$system" <<<acme >"$sys/dealt" 2>"$sys/distributor.log" || { cat "$sys/distributor.log" >&2; die "nothing was dealt"; }
  [[ -z $(ls -A "$sys/offline") ]] || die "something stayed at the distributor: $(ls -A "$sys/offline")"
  echo "The distributor has ended. Nothing stayed on its machine; on the medium there are:"
  ls "$medium" "$medium/shares"
  printf '$ %s\n' "privyseal authority install $medium"
  privyseal authority install "$medium" 2>"$sys/install.log" | sed '/^enterprise/,$d'
  digest="$(privyseal request entry dealing "$medium/dealing.cbor" --card "${card[rosa]}" --json 2>"$sys/entry.log" | digest_of)"
  echo "The system-wide authority enters it into the ledger: eight officers at four devices approve."
  approve "$digest" o5a o5b o2a o2b o3a o3b o4a o4b | tail -n 1
  privyseal request status "$digest" --wait >"$sys/status" 2>&1 || { cat "$sys/status" >&2; die "the dealing is not in the ledger"; }
}

readonly system="$(privyseal status --json | tr -d ' \n' | sed 's/.*"system":"\([0-9a-f]*\)".*/\1/')"

say "the authority is planned, and dealt off line"
readonly reserve='{need: 2, persons: [{person: o1a}, {person: o2a}, {person: o3a}]}'
plan >plan.yaml
deal deal plan.yaml medium
cp medium/root.pem "$dir/ca.pem"
mkdir vault && mv medium/reserve.cbor vault/ && mv medium carried
echo "the reserve goes into a vault; without the cards of two of three people it is of no use"
shown privyseal authority show acme

issue() { # issue NAME COUNT: a load of certificates
  local who
  start "$1" load -count "$2" -every 300ms -open 6 -home "$sys/home/privyseal" -pins "$sys/pins" -key acme -requester "${card[rosa]}" -out "$sys/$1" \
    -officers "$(for who in "${people[@]:0:12}"; do printf '%s\n' "${card[$who]}"; done | paste -sd,)"
}
ended() { # ended NAME: a load
  wait "${pids[$1]}" || { tail -n 5 "$sys/$1.log" >&2; die "the load failed"; }
  unset "pids[$1]"
}
mkdir load1 load2

say "certificates: any $t of $k calculators and one of $m combiners; two of two officers confirm at each of the eight"
issue load1 70
until_true 60 have_signed 15
told 0

say "calculators 1 and 2 are killed"
end KILL d1 d2
n=$(signed)
until_true 60 have_signed $((n + 20))
told "$n"
none_failed || die "a certificate failed"
start d2 privyseal-device run --dir "$sys/d2"
open_again 2

say "somebody changes the software of calculator 3 and of combiner 2: they lie, and calculator 1 is still dead"
end TERM d3 d7
start d3 lying-calculator run --dir "$sys/d3"
start d7 lying-combiner run --dir "$sys/d7"
for i in 3 7; do open_again $i; done
n=$(signed)
until_true 60 have_signed $((n + 15))
told "$n"
none_failed || die "a certificate failed"

say "a calculator is added, while that goes on: the reserve is opened by two of its three keepers"
plan 6 >plan2.yaml
deal extend plan2.yaml medium2 --reserve vault/reserve.cbor
rm vault/reserve.cbor && mv medium2/reserve.cbor vault/
n=$(signed)
ended load1
issue load2 $((all - 70 - batch))
ended load2
told "$n"
none_failed || die "a certificate failed"

say "the last $batch with one request, which calculator 6 is needed for: officers see all $batch, and sign once for each machine"
mkdir csrs
for ((i = 1; i <= batch; i++)); do
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj "/CN=batch-$i.example" \
    -addext "subjectAltName=DNS:batch-$i.example" -out "csrs/$(printf %02d "$i").csr" 2>/dev/null
done
# Two other calculators and the combiners that do not lie: which of them have a
# combination together was drawn when they were dealt.
digest=
for numbers in "2 4" "2 5" "4 5"; do
  numbers+=" 9 6 8"
  ask=(privyseal request certificate --csr csrs --profile server --key acme --devices "d${numbers// /,d}" --card "${card[rosa]}")
  if digest="$("${ask[@]}" --json 2>"$sys/batch.log" | digest_of)" && [[ -n $digest ]]; then break; fi
done
[[ -n $digest ]] || { cat "$sys/batch.log" >&2; die "the batch cannot be asked for"; }
printf '$ %s\n' "${ask[*]}"
from="$(date +%s%N)"
# All officers at once. Who comes when it is signed already is told so.
approving=()
for who in $(for i in $numbers; do printf '%s\n' ${officers[$i]}; done | sort -u); do
  privyseal officer approve "$digest" --yes --card "${card[$who]}" >"$sys/batch-$who.out" 2>>"$sys/batch.log" &
  approving+=($!)
done
shown privyseal request status "$digest" --wait --out certs 2>"$sys/batch-signed.log"
tenths=$((($(date +%s%N) - from) / 100000000))
for p in "${approving[@]}"; do wait "$p" || true; done
grep -qw d9 <(grep '^signed by' "$sys/batch-signed.log") || die "calculator 6 did not take part"
words="$(privyseal request status "$digest" --json | awk '/"approved": \[$/ { list = 1; next } /\]/ { list = 0 } list { n++ } END { print n + 0 }')"
echo "$(find certs -name '*.pem' | wc -l) certificates, after $((tenths / 10)).$((tenths % 10)) s; the officers signed $words times, once for each machine"

say "who lied"
for liar in "calculator 3 (d3)" "combiner 2 (d7)"; do
  privyseal heartbeat status 2>/dev/null | grep -F "$liar" | tail -n 1 || die "$liar was not named"
done

say "OpenSSL's verdict"
shown openssl x509 -in load1/001.pem -noout -subject -issuer -ext subjectAltName
n=0
for f in load1/*.pem load2/*.pem certs/*.pem; do
  openssl verify -x509_strict -CAfile "$dir/ca.pem" "$f" >verdict 2>&1 || { cat verdict; die "OpenSSL refuses $f"; }
  n=$((n + 1))
done
so_many="$n certificates, all of them verified by openssl verify -x509_strict"
((n == all)) || die "$so_many; $all were asked for"
echo "$so_many"
echo "took $((SECONDS - began)) s after the build"

if_kept acme
