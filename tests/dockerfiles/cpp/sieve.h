#pragma once
#include <vector>

// All primes below `end`.
std::vector<unsigned> primes(unsigned end);
