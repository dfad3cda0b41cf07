package emsa_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/emsa"
)

// The vectors are of C2SP Wycheproof at commit 061657f1, testvectors_v1:
// rsa_signature_3072_sha384_test.json and rsa_pss_2048_sha256_mgf1_32_test.json,
// tcId 3 of each, the message "Test". All keys have e = 65537.
var wycheproof = []struct {
	hash         crypto.Hash
	pss          bool
	modulus, sig string
}{
	{
		crypto.SHA384, false,
		"a07887f373378196b0b748cdf31c14735ccfa0f117acafdaa21fde4b6e7559390b834e7b92e9e1cc9d49fc0fe6cfb60429652b4bf9a7768f71fc4271ca6fef4e431192ebdc98630bfb94c5baf18b4cf7881d84483e4c44c22db15a9627705a0b42a26d6f3d6009aee0d2a71bedf4d4b0ee6b6fec2f16e1277ecaa3bdedba406473a476d1688df0fad1da795526c7e641981b4812b05b692d60c60b2bfa424c8b620f40dc9dba59e2c710e7ee750b3e134c1f71f43210688aff17aaa41cdb5668753f0006b1cf951bc5951f4d89a31196985ea55c0966c3662bcfe4e4cd34f12e4afd7e5c4a130739b1017d6a583882fd72db1a67418702c8b01353ccf75b7b93faec0e0be36211d5f2bd910e1552323711bbeb73858f899cc1ec063ef67d88e0c699d5a689c52106f06e960f09d2a3cf84f53bbea2a473edf2e6e0176801d3fa1c2d358e1e5a26f646ac93796ec1fadc6991c0ec19c9dd90b25a2dd3bf73d2cf1eea8867f96caa5a2df54973acb2a2da0a1367ec74afbb968f517765238d1769",
		"259332bd5a274bc347ffa3e8a31c8b27f216cc865d32c917a5d7e4c06abd44b6c024f44eba997862c812d8ebaf7caccbb234293178e44b2532478e8bebf6af5f83318ebe398e0850e929a89cda860cd18ec94554e4e0d45a9ec2d9acd83fbef2b5d31dd7b2f3c12e791afd3e39a9437fda7724c9426194bcfdc6bd52036f62aeea7853db2c8c498103eb60180281170aa0fae8139417974d917090dba8f9061665e92d953827dff4d450f5566d2c5b753b65c9b522a0c4da868629569a666b7c292b22060e92acf4ed65e51245403a4f162c8b504b85a810906ecaca2956d395c163a7f6f23573156968ecf62ef46b72b9ce39303681e354e91c5d7944cd3288b2a84a1ea28e7e6f260bc5f8d92be419ad649a8f55a2195ca46130922d82759f9bc030c8b122211d952c3ee7851f09f30c2fecd1070656c69c2598584b55cbe6567dd2719305dc52dfda03ea289a5db920fc2c777e7081cfd92864316d3fca9aaf8e2218ed8a5235e746e5cd9bcc856b0c615b901dc610f0193171869202e845",
	},
	{
		crypto.SHA256, true,
		"a2b451a07d0aa5f96e455671513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a1700f65903b469429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48c98e254a2fe9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d9658594266f5c021d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ada0f1126422f590975a1969816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12569a62807d3b9a02e5a530e773066f453d1f5b4c2e9cf7820283f742b9d5",
		"401eb03cdb47ca88033e3030f6bdecbac8f5c8fc1dd6a13d23d379ed9a2b309891d13d74fea9d21d159b9e6d8f37efa2489962e24555f56dd434ff1d31ce4f9f5abd3f22cbea8b691d6a11e44efb83e2bca155e6a164325e0fde2a8865afd5c9f51161a9d615f62af7ec2e31b3e5ab649c164490d31d88cfae35b84aea7925690f929a144b6d2f48e8fb894a52deecd1b9a6496990c4ecf1588699a42cacd10c53af350514e4291ea9a058e77f101e32c1c0cefa61d945f7bc931f8bd19e7ba3169358a60e5a8b0123bc3199b9fdcafe8e519c41ba675491a27b85e44ef2d77277c10fe107293c8290186913bc9a99b640d8da041b64f31eab1d35920985f4a5",
	},
}

func TestWycheproof(t *testing.T) {
	for _, v := range wycheproof {
		n, _ := hex.DecodeString(v.modulus)
		sig, _ := hex.DecodeString(v.sig)
		h := v.hash.New()
		h.Write([]byte("Test"))
		check(t, v.hash, v.pss, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, h.Sum(nil), sig)
	}
}

// TestAgainstCryptoRSA opens signatures of crypto/rsa and encodes anew.
func TestAgainstCryptoRSA(t *testing.T) {
	for _, bits := range []int{1024, 2048, 2049} { // 2049: EM is a byte shorter than N for PSS
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := make([]byte, hash.Size())
			rand.Read(digest)
			sig, err := rsa.SignPKCS1v15(nil, key, hash, digest)
			if err != nil {
				t.Fatal(err)
			}
			check(t, hash, false, &key.PublicKey, digest, sig)
			if bits == 1024 && hash == crypto.SHA512 {
				continue // no room for a salt of 64 bytes
			}
			sig, err = rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
			if err != nil {
				t.Fatal(err)
			}
			check(t, hash, true, &key.PublicKey, digest, sig)
		}
	}
}

// check opens a signature made elsewhere and compares its encoded message with
// ours, for PSS with the salt found in it.
func check(t *testing.T, hash crypto.Hash, pss bool, pub *rsa.PublicKey, digest, sig []byte) {
	t.Helper()
	m := new(big.Int).Exp(new(big.Int).SetBytes(sig), big.NewInt(int64(pub.E)), pub.N)
	var want, got []byte
	var err error
	if pss {
		want = m.FillBytes(make([]byte, (pub.N.BitLen()-1+7)/8))
		got, err = emsa.EncodePSS(hash, digest, saltOf(hash, want, pub.N.BitLen()-1), pub.N.BitLen()-1)
	} else {
		want = m.FillBytes(make([]byte, pub.Size()))
		got, err = emsa.EncodePKCS1v15(hash, digest, pub.Size())
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, pss %v, %d bits: %v\n got %x\nwant %x", hash, pss, pub.N.BitLen(), err, got, want)
	}
}

// saltOf unmasks DB and takes the salt, as long as the hash, from its end.
func saltOf(hash crypto.Hash, em []byte, emBits int) []byte {
	dbLen := len(em) - hash.Size() - 1
	var mask []byte
	for i := uint32(0); len(mask) < dbLen; i++ {
		h := hash.New()
		h.Write(em[dbLen : len(em)-1])
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		mask = h.Sum(mask)
	}
	salt := make([]byte, hash.Size())
	for i := range salt {
		at := dbLen - len(salt) + i
		salt[i] = em[at] ^ mask[at]
	}
	return salt
}

func TestLengths(t *testing.T) {
	digest := make([]byte, 32)
	for name, err := range map[string]error{
		"short digest":     second(emsa.EncodePKCS1v15(crypto.SHA256, digest[1:], 256)),
		"short message":    second(emsa.EncodePKCS1v15(crypto.SHA256, digest, 19+32+10)),
		"pss short digest": second(emsa.EncodePSS(crypto.SHA256, digest[1:], digest, 2047)),
		"pss no room":      second(emsa.EncodePSS(crypto.SHA256, digest, digest, 8*(32+32+2)-8)),
	} {
		if !errors.Is(err, emsa.ErrLength) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := emsa.EncodePKCS1v15(crypto.SHA256, digest, 19+32+11); err != nil {
		t.Errorf("shortest message: %v", err)
	}
	if _, err := emsa.EncodePSS(crypto.SHA256, digest, digest, 8*(32+32+2)-1); err != nil {
		t.Errorf("shortest pss message: %v", err)
	}
	for _, h := range []crypto.Hash{0, crypto.SHA1, crypto.SHA3_256} {
		if second(emsa.EncodePKCS1v15(h, digest, 256)) == nil || second(emsa.EncodePSS(h, digest, nil, 2047)) == nil {
			t.Errorf("hash %d accepted", h)
		}
	}
}

func second(_ []byte, err error) error { return err }
