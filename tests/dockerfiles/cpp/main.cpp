#include <iostream>
#include <string>

#include "sieve.h"

int main(int, char **arguments) {
    for (unsigned prime : primes(std::stoul(arguments[1]))) std::cout << prime << ' ';
    std::cout << std::endl;
}
