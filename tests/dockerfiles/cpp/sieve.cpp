#include "sieve.h"

std::vector<unsigned> primes(unsigned end) {
    std::vector<bool> composite(end);
    std::vector<unsigned> found;
    for (unsigned n = 2; n < end; n++) {
        if (composite[n]) continue;
        found.push_back(n);
        for (unsigned m = 2 * n; m < end; m += n) composite[m] = true;
    }
    return found;
}
